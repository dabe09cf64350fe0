//! The AXI4-Stream switch with control registers (PG085, "AXI4-Stream Switch", "Control Register Routing").

use super::{Fifo, Received, StreamSink, StreamSource};
use crate::axi::{Peripheral, merge};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll, Waker};

/// Control register; writing [`COMMIT`] lets the routes that were written take effect.
const CONTROL: u32 = 0x00;
const COMMIT: u32 = 1 << 1;
/// MI_MUX of master 0, one register for each master from there on.
const ROUTES: u32 = 0x40;
/// Of a MI_MUX register: no slave is routed to this master.
const DISABLED: u32 = 1 << 31;
const SLAVE: u32 = 0xf;
/// What of it can be written.
const ROUTE_BITS: u32 = DISABLED | SLAVE;
/// Most ports on a side.
const MOST: usize = 16;

/// A switch: what comes in at a slave goes out at the master that selects it, if any does.
///
/// H2C channels feed its slaves, C2H channels are fed by its masters. A slave that no master selects takes nothing. After a
/// reset all masters are disabled.
#[derive(Debug)]
pub struct Switch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// One for each slave.
    slaves: Vec<Fifo>,
    routing: RwLock<Routing>,
    /// Those who wait for a route.
    waiting: Mutex<Vec<Waker>>,
}

#[derive(Debug)]
struct Routing {
    /// MI_MUX of each master, as written.
    written: Vec<u32>,
    /// The slave that each master is fed by.
    routes: Vec<Option<usize>>,
}

impl Routing {
    fn at_reset(masters: usize) -> Self {
        Self { written: vec![DISABLED; masters], routes: vec![None; masters] }
    }
}

/// One port of a switch, as a channel's sink or source.
#[derive(Debug)]
struct Port {
    shared: Arc<Shared>,
    number: usize,
}

impl Switch {
    /// A switch with so many slaves and masters, at most 16 each.
    #[must_use]
    pub fn new(slaves: usize, masters: usize) -> Self {
        let slaves = (0..slaves.min(MOST)).map(|_| Fifo::default()).collect();
        let routing = RwLock::new(Routing::at_reset(masters.min(MOST)));
        Self(Arc::new(Shared { slaves, routing, waiting: Mutex::default() }))
    }

    /// The slaves, to be written.
    #[must_use]
    pub fn slaves(&self) -> Vec<Arc<dyn StreamSink>> {
        let port = |number| Arc::new(Port { shared: Arc::clone(&self.0), number }) as _;
        (0..self.0.slaves.len()).map(port).collect()
    }

    /// The masters, to be read.
    #[must_use]
    pub fn masters(&self) -> Vec<Arc<dyn StreamSource>> {
        let port = |number| Arc::new(Port { shared: Arc::clone(&self.0), number }) as _;
        (0..self.0.routing().routes.len()).map(port).collect()
    }
}

impl Shared {
    fn routing(&self) -> RwLockReadGuard<'_, Routing> {
        self.routing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn routing_to_change(&self) -> RwLockWriteGuard<'_, Routing> {
        self.routing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the written routes take effect. Of several masters that select one slave, the lowest gets it.
    fn commit(&self) {
        let mut routing = self.routing_to_change();
        let mut routes = Vec::with_capacity(routing.written.len());
        for written in &routing.written {
            let slave = Some((written & SLAVE) as usize)
                .filter(|slave| written & DISABLED == 0 && *slave < self.slaves.len())
                .filter(|slave| !routes.contains(&Some(*slave)));
            routes.push(slave);
        }
        tracing::debug!(?routes, "the stream switch has new routes");
        routing.routes = routes;
        drop(routing);
        self.look_again();
    }

    fn reset(&self) {
        let mut routing = self.routing_to_change();
        *routing = Routing::at_reset(routing.routes.len());
        drop(routing);
        self.slaves.iter().for_each(StreamSink::reset);
        self.look_again();
    }

    /// Wakes everybody who waits, wherever that is.
    fn look_again(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
        self.slaves.iter().for_each(Fifo::wake);
    }

    /// Waits for other routes. The caller holds the routing, so that none comes unnoticed.
    fn wait(&self, context: &Context<'_>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
    }
}

impl Peripheral for Switch {
    fn read(&self, offset: u32) -> u32 {
        let master = offset.checked_sub(ROUTES).map(|at| at as usize / 4);
        master.and_then(|master| self.0.routing().written.get(master).copied()).unwrap_or(0)
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        if offset == CONTROL && value & lanes & COMMIT != 0 {
            self.0.commit();
        } else if let Some(at) = offset.checked_sub(ROUTES)
            && let Some(route) = self.0.routing_to_change().written.get_mut(at as usize / 4)
        {
            *route = merge(*route, value, lanes) & ROUTE_BITS;
        }
    }

    fn reset(&self) {
        self.0.reset();
    }
}

impl StreamSink for Port {
    fn poll_send(&self, context: &mut Context<'_>, data: &[u8], last: bool) -> Poll<usize> {
        let routing = self.shared.routing();
        if !routing.routes.contains(&Some(self.number)) {
            self.shared.wait(context);
            return Poll::Pending;
        }
        self.shared.slaves[self.number].poll_send(context, data, last)
    }

    fn poll_send_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        length: usize,
        last: bool,
    ) -> Poll<usize> {
        let routing = self.shared.routing();
        if !routing.routes.contains(&Some(self.number)) {
            self.shared.wait(context);
            return Poll::Pending;
        }
        self.shared.slaves[self.number].poll_send_buffer(context, buffer, length, last)
    }

    fn reset(&self) {
        self.shared.reset();
    }
}

impl StreamSource for Port {
    fn poll_receive(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<Received> {
        let routing = self.shared.routing();
        let Some(slave) = routing.routes[self.number] else {
            self.shared.wait(context);
            return Poll::Pending;
        };
        self.shared.slaves[slave].poll_receive(context, into)
    }

    fn poll_receive_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        most: usize,
    ) -> Poll<Received> {
        let routing = self.shared.routing();
        let Some(slave) = routing.routes[self.number] else {
            self.shared.wait(context);
            return Poll::Pending;
        };
        self.shared.slaves[slave].poll_receive_buffer(context, buffer, most)
    }

    fn reset(&self) {
        self.shared.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bell, receive, send};
    use super::*;

    fn route(switch: &Switch, routes: &[u32]) {
        for (master, route) in (0u32..).zip(routes) {
            switch.write(ROUTES + 4 * master, *route, u32::MAX);
        }
        switch.write(CONTROL, COMMIT, u32::MAX);
    }

    #[test]
    fn nothing_passes_before_a_route_is_committed() {
        let switch = Switch::new(2, 2);
        let (slaves, masters) = (switch.slaves(), switch.masters());
        assert_eq!((switch.read(0x40), switch.read(0x44), switch.read(0x48)), (DISABLED, DISABLED, 0));
        assert_eq!(send(&*slaves[0], &[1], true), Poll::Pending);
        switch.write(0x44, 0xffff_ff00, 0x7fff_ffff);
        assert_eq!(switch.read(0x44), DISABLED, "bits that do not exist stay clear");
        switch.write(0x44, 0, u32::MAX);
        assert_eq!(send(&*slaves[0], &[1], true), Poll::Pending);
        switch.write(CONTROL, COMMIT, u32::MAX);
        assert_eq!(send(&*slaves[0], &[1], true), Poll::Ready(1));
        assert_eq!(receive(&*masters[0], 4), None);
        assert_eq!(receive(&*masters[1], 4), Some((vec![1], true)));
        assert_eq!(switch.read(CONTROL), 0);
    }

    #[test]
    fn the_lowest_master_gets_a_slave_that_several_select() {
        let switch = Switch::new(2, 3);
        let (slaves, masters) = (switch.slaves(), switch.masters());
        route(&switch, &[5, 1, 1]);
        assert_eq!(send(&*slaves[1], &[1], true), Poll::Ready(1));
        assert_eq!((receive(&*masters[0], 4), receive(&*masters[2], 4)), (None, None));
        assert_eq!(receive(&*masters[1], 4), Some((vec![1], true)));
        assert_eq!(send(&*slaves[0], &[1], true), Poll::Pending, "nobody selects it");
    }

    #[test]
    fn a_disabled_route_holds_packets_up_and_loses_none() {
        let switch = Switch::new(1, 1);
        let (slave, master) = (switch.slaves().remove(0), switch.masters().remove(0));
        route(&switch, &[0]);
        assert_eq!(send(&*slave, &[1, 2], true), Poll::Ready(2));
        route(&switch, &[DISABLED]);
        assert_eq!((send(&*slave, &[3], true), receive(&*master, 4)), (Poll::Pending, None));
        route(&switch, &[0]);
        assert_eq!(receive(&*master, 4), Some((vec![1, 2], true)));
    }

    #[test]
    fn whoever_waits_is_woken_when_routes_change() {
        let switch = Switch::new(2, 1);
        let (slaves, master) = (switch.slaves(), switch.masters().remove(0));
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(master.poll_receive(&mut context, &mut [0]).is_pending());
        }
        route(&switch, &[0]);
        assert_eq!(bell.rings(), 1);
        // Now it waits for data of slave 0, and hears that slave 1 is its own.
        assert!(master.poll_receive(&mut context, &mut [0]).is_pending());
        route(&switch, &[1]);
        assert_eq!(bell.rings(), 2);
        assert_eq!(send(&*slaves[1], &[9], false), Poll::Ready(1));
        assert_eq!(receive(&*master, 4), Some((vec![9], false)));
    }

    #[test]
    fn a_reset_disables_all_masters_and_empties_them() {
        let switch = Switch::new(1, 1);
        let (slave, master) = (switch.slaves().remove(0), switch.masters().remove(0));
        route(&switch, &[0]);
        assert_eq!(send(&*slave, &[1], true), Poll::Ready(1));
        Peripheral::reset(&switch);
        assert_eq!(switch.read(0x40), DISABLED);
        route(&switch, &[0]);
        assert_eq!(receive(&*master, 4), None);
    }
}
