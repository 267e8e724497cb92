//! What a whole allocator is told: which services are its own, and in which order addresses are reused.

/// Which services are ours by `spec.loadBalancerClass`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassPolicy {
    /// Class to serve; `None` serves services without a class only, as `MetalLB` does.
    pub class: Option<String>,
    /// With a class: services without one are served too.
    pub classless_too: bool,
}

impl ClassPolicy {
    /// Whether a service of this class is ours.
    pub fn admits(&self, class: Option<&str>) -> bool {
        match (&self.class, class) {
            (None, class) => class.is_none(),
            (Some(_), None) => self.classless_too,
            (Some(ours), Some(class)) => ours == class,
        }
    }
}

/// Which of several free addresses of a pool is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// The lowest, as `MetalLB` does. A released address is often the next to be given.
    #[default]
    LowestFree,
    /// Fair reuse: first those that nobody held since this process started, lowest first; then the one that was released
    /// longest ago. Who still knows the old owner of an address has the longest time to forget it.
    LeastRecentlyReleased,
}

/// What a whole allocator is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which services are ours.
    pub classes: ClassPolicy,
    /// In which order addresses are reused.
    pub reuse: Reuse,
}

impl From<ClassPolicy> for Policy {
    fn from(classes: ClassPolicy) -> Self {
        Self {
            classes,
            ..Self::default()
        }
    }
}
