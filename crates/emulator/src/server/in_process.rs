//! A function that is served to one client of this process.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::board::Board;
use super::{Options, STACK, ServerError, connection};
use crate::function::{Function, Host};
use crate::host::{BoardHost, Kindness, Link};

/// Serves the function that `plug` makes for the host it is given, to the one client at the other end of the socket that
/// is returned, until that hangs up. No file is made, and nobody else can connect.
///
/// # Errors
/// What `plug` answers, a function whose description cannot be, or a socket or a thread that cannot be made.
pub fn serve_in_process<E: From<ServerError>>(
    options: Options,
    plug: impl FnOnce(Arc<dyn Host>) -> Result<Arc<dyn Function>, E>,
) -> Result<UnixStream, E> {
    let Options { strict_writes, ignore_bus_master, patience, .. } = options;
    let host = Arc::new(BoardHost::new(Kindness { strict_writes, ignore_bus_master }));
    let function = plug(Arc::clone(&host) as Arc<dyn Host>)?;
    let board = Board::new(function, host).map_err(ServerError::Description)?;
    let (ours, theirs) = UnixStream::pair().map_err(ServerError::InProcess)?;
    let link = Arc::new(Link::new(ours, patience).map_err(ServerError::InProcess)?);
    let serve = move || {
        let arrival = board.arrival(&link);
        connection::serve(&board, &link, arrival);
    };
    let thread = std::thread::Builder::new().name("vfio-user".into()).stack_size(STACK);
    thread.spawn(serve).map_err(ServerError::InProcess)?;
    Ok(theirs)
}
