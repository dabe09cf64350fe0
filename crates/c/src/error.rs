//! What went wrong last, for the thread in which it did.

use jitney_faces::{Failure, Kind};
use jitney_memory::errno_name;
use rustix::io::Errno;
use serde_json::json;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// What sort of failure it is, for programs that want to act on it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing has gone wrong yet.
    None,
    /// A failure of no other kind.
    Other,
    /// There is no such card, board, BAR, channel or register.
    NotFound,
    /// Somebody else has it: see `holder`; or a transfer uses it.
    Held,
    /// The request itself is wrong: a size, an alignment, a name, NULL.
    Invalid,
    /// The access lies outside of the registers, the buffer or the flash.
    OutOfBounds,
    /// The card, kernel or broker cannot do this.
    Unsupported,
    /// No memory, no address space, no huge pages, or a limit was reached.
    Exhausted,
    /// The caller has no right to it.
    Denied,
    /// The card answers nothing: link down, reset, unplugged, or the process that emulates it is gone.
    LinkDown,
    /// The broker is gone, or has ended the connection.
    Disconnected,
    /// It took longer than it may.
    TimedOut,
    /// Another process does not keep to the protocol.
    Protocol,
    /// The card's DMA engine has failed, or has not stopped.
    Transfer,
    /// The transfer was given up before it had ended.
    Cancelled,
    /// The flash, or the bus that it is on, does not answer as it should.
    Flash,
    /// The handle was freed, or is none; or a stream has ended.
    Closed,
    /// It is the parent's: this process was forked from it.
    Forked,
    /// A defect of the library's own, which has ended the call. Please report it.
    Internal,
}

/// What went wrong: all texts are the thread's, and stay until its next failure. Those that are not known are NULL.
#[repr(C)]
#[derive(Debug)]
pub struct Error {
    /// What the function has returned: a negative errno; 0 if nothing has gone wrong yet.
    pub code: c_int,
    /// What sort of failure it is.
    pub kind: ErrorKind,
    /// The same as a word: `held`, `link-down`.
    pub kind_name: *const c_char,
    /// The errno behind it by name, as `EBUSY`, if the system or another process gave one.
    pub errno_name: *const c_char,
    /// What was tried on which object, and what happened, in a sentence for people. Never NULL.
    pub what: *const c_char,
    /// Who has what was asked for, as `pid 4211 (jitney test ddr)`.
    pub holder: *const c_char,
    /// What can be done about it: a command or a clause.
    pub remedy: *const c_char,
    /// All of this as a JSON object with `kind`, `what`, `errno`, `holder` and `remedy`.
    pub json: *const c_char,
}

/// An error with the texts that it points to.
struct Kept {
    error: Error,
    _texts: Vec<CString>,
}

const NOTHING: Error = Error {
    code: 0,
    kind: ErrorKind::None,
    kind_name: c"none".as_ptr(),
    errno_name: ptr::null(),
    what: c"nothing has gone wrong".as_ptr(),
    holder: ptr::null(),
    remedy: ptr::null(),
    json: c"{\"kind\":\"none\",\"what\":\"nothing has gone wrong\",\"errno\":null,\"holder\":null,\"remedy\":null}".as_ptr(),
};

thread_local! {
    static LAST: RefCell<Kept> = const { RefCell::new(Kept { error: NOTHING, _texts: Vec::new() }) };
}

impl ErrorKind {
    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Other => Self::Other,
            Kind::NotFound => Self::NotFound,
            Kind::Held => Self::Held,
            Kind::Invalid => Self::Invalid,
            Kind::OutOfBounds => Self::OutOfBounds,
            Kind::Unsupported => Self::Unsupported,
            Kind::Exhausted => Self::Exhausted,
            Kind::Denied => Self::Denied,
            Kind::LinkDown => Self::LinkDown,
            Kind::Disconnected => Self::Disconnected,
            Kind::TimedOut => Self::TimedOut,
            Kind::Protocol => Self::Protocol,
            Kind::Transfer => Self::Transfer,
            Kind::Cancelled => Self::Cancelled,
            Kind::Flash => Self::Flash,
            Kind::Closed => Self::Closed,
            Kind::Forked => Self::Forked,
        }
    }

    /// As a word, and the errno for it where the system has not given one.
    const fn words(self) -> (&'static CStr, c_int) {
        match self {
            Self::None => (c"none", 0),
            Self::Other => (c"other", libc::EIO),
            Self::NotFound => (c"not-found", libc::ENOENT),
            Self::Held => (c"held", libc::EBUSY),
            Self::Invalid => (c"invalid", libc::EINVAL),
            Self::OutOfBounds => (c"out-of-bounds", libc::ERANGE),
            Self::Unsupported => (c"unsupported", libc::EOPNOTSUPP),
            Self::Exhausted => (c"exhausted", libc::ENOMEM),
            Self::Denied => (c"denied", libc::EACCES),
            Self::LinkDown => (c"link-down", libc::ENODEV),
            Self::Disconnected => (c"disconnected", libc::ECONNRESET),
            Self::TimedOut => (c"timed-out", libc::ETIMEDOUT),
            Self::Protocol => (c"protocol", libc::EPROTO),
            Self::Transfer => (c"transfer", libc::EIO),
            Self::Cancelled => (c"cancelled", libc::ECANCELED),
            Self::Flash => (c"flash", libc::EIO),
            Self::Closed => (c"closed", libc::EBADF),
            Self::Forked => (c"forked", libc::EPERM),
            Self::Internal => (c"internal", libc::ENOTRECOVERABLE),
        }
    }
}

/// Keeps a failure for the thread; says what its function returns.
#[cold]
pub(crate) fn keep(failure: &Failure) -> c_int {
    keep_as(ErrorKind::of(failure.kind()), failure)
}

/// Keeps what a panic has said, likewise.
#[cold]
pub(crate) fn keep_panic(said: &str) -> c_int {
    let failure = Failure::new(Kind::Other, format!("the library has a defect: {said}"))
        .with_remedy("please report it with what the program did");
    keep_as(ErrorKind::Internal, &failure)
}

fn keep_as(kind: ErrorKind, failure: &Failure) -> c_int {
    let (name, usual) = kind.words();
    let errno = failure.errno().filter(|errno| (1..4096).contains(errno));
    let errno_text = errno.map(|errno| errno_name(Errno::from_raw_os_error(errno)));
    let code = -errno.unwrap_or(usual);
    let json = json!({
        "kind": name.to_string_lossy(),
        "what": failure.what(),
        "errno": errno_text,
        "holder": failure.holder(),
        "remedy": failure.remedy(),
    });
    let mut texts = Vec::new();
    let mut keep = |text: Option<&str>| match text {
        Some(text) => {
            // What ends a text of C's is not in it.
            let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
            let start = text.as_ptr();
            texts.push(text);
            start
        }
        None => ptr::null(),
    };
    let error = Error {
        code,
        kind,
        kind_name: name.as_ptr(),
        errno_name: keep(errno_text),
        what: keep(Some(failure.what())),
        holder: keep(failure.holder()),
        remedy: keep(failure.remedy()),
        json: keep(Some(&json.to_string())),
    };
    // A thread at its very end has nobody who asks.
    let _ = LAST.try_with(|last| last.replace(Kept { error, _texts: texts }));
    code
}

/// What went wrong last in this thread. Never NULL; what it points to stays until the thread's next failure or its end, so copy
/// what is to be kept. A function that succeeds leaves it as it is.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_last_error() -> *const Error {
    struct Always(Error);
    // SAFETY: It has nothing but constant texts.
    unsafe impl Sync for Always {}
    static ALWAYS: Always = Always(NOTHING);
    LAST.try_with(|last| {
        let kept = last.as_ptr().cast_const();
        // SAFETY: The pointer is that of this thread's cell, which is there for as long as the thread; only the place of its field
        // is taken, and nothing is read.
        unsafe { &raw const (*kept).error }
    })
    .unwrap_or(&raw const ALWAYS.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_a_word_and_an_errno() {
        let all = [Kind::NotFound, Kind::Held, Kind::Closed, Kind::Forked, Kind::Protocol, Kind::Flash];
        let words: HashSet<_> = all.iter().map(|&kind| ErrorKind::of(kind).words().0).collect();
        assert_eq!(words.len(), all.len());
        assert_eq!(keep(&Failure::closed("it")), -libc::EBADF);
        assert_eq!(keep(&Failure::invalid("a\0b")), -libc::EINVAL);
    }
}
