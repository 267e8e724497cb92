//! A whole speaker in one machine.

use std::sync::Arc;

use metallb_election::{Endpoints, NodeFacts, NodeName, ServiceFacts};
use metallb_model::Config;
use metallb_sansio::{Instant, Machine};

use crate::{Engine, EngineConfig, Input, Options, Output, Planner, ServiceKey};

/// What a speaker is told.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldInput {
    /// To the fast half.
    Wire(Input),
    /// What is told from now on is as fresh as this; see [`Planner::at`].
    At(u64),
    /// A service is there with these facts, or gone.
    Service(ServiceKey, Option<ServiceFacts>),
    /// The usable endpoints of a service.
    Endpoints(ServiceKey, Endpoints),
    /// A node is there with these facts, or gone.
    Node(NodeName, Option<NodeFacts>),
    /// The configuration in force.
    Config(Arc<Config>),
}

/// Both halves of a speaker, without the threads between them. The simulator runs whole speakers as this.
pub struct World {
    planner: Planner,
    engine: Engine,
}

impl World {
    /// A speaker at the start of its life.
    pub fn new(now: Instant, config: EngineConfig, ignore_exclude_label: bool) -> Self {
        Self {
            planner: Planner::new(ignore_exclude_label),
            engine: Engine::new(now, config),
        }
    }

    /// The same with other than the usual options.
    pub fn with_options(now: Instant, config: EngineConfig, options: Options) -> Self {
        Self {
            planner: Planner::new(false),
            engine: Engine::with_options(now, config, options),
        }
    }

    /// The fast half, for reading.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The half that plans, for reading.
    pub const fn planner(&self) -> &Planner {
        &self.planner
    }
}

impl Machine for World {
    type Input = WorldInput;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: WorldInput) {
        match input {
            WorldInput::Wire(input) => return self.engine.handle(now, input),
            WorldInput::At(version) => return self.planner.at(version),
            WorldInput::Service(key, facts) => self.planner.service(key, facts),
            WorldInput::Endpoints(key, endpoints) => self.planner.endpoints(&key, endpoints),
            WorldInput::Node(name, facts) => self.planner.node(name, facts),
            WorldInput::Config(config) => self.planner.config(config),
        }
        for directive in self.planner.settle() {
            self.engine.handle(now, Input::Directive(directive));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.engine.poll_output()
    }
}
