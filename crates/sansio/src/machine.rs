use crate::Instant;

/// A protocol core: state, inputs and time in, outputs out.
///
/// The driver's loop is always the same:
///
/// 1. feed every input that is ready with [`handle`](Machine::handle);
/// 2. when [`poll_timeout`](Machine::poll_timeout) is due, call [`handle_timeout`](Machine::handle_timeout);
/// 3. take outputs with [`poll_output`](Machine::poll_output) until there is none;
/// 4. sleep until the next input or the next timeout.
///
/// Inputs go before timeouts: a datagram that waited in a socket while the process was not scheduled is evidence that
/// a timeout must not contradict.
///
/// A machine never fails because of what a peer sends: malformed or hostile input is counted or becomes an output. It
/// never panics on a clock that stands still or jumps ahead; a clock that runs backwards is treated as standing still.
pub trait Machine {
    /// What can happen to it. Plain data.
    type Input;
    /// What it wants done. Plain data.
    type Output;

    /// Takes one input that happened at `now`.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// When [`handle_timeout`](Machine::handle_timeout) wants to be called next; `None` when only an input can change
    /// anything.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Lets time pass up to `now`. Calling it too early does nothing.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing to do, in the order decided; `None` when all is done.
    fn poll_output(&mut self) -> Option<Self::Output>;
}
