//! Names of errno values, so that every message of the project says "EEXIST" and not "os error 17".

use std::fmt;

use rustix::io::Errno;

macro_rules! names {
    ($($constant:ident => $name:literal,)*) => {
        /// The name of `errno` as `errno(3)` spells it, such as `"EEXIST"`; `"unknown errno"` for a value that
        /// Linux does not define.
        ///
        /// Where Linux has two names for one value, this is the common one: `EAGAIN`, `EDEADLK`, `EOPNOTSUPP`.
        #[must_use]
        pub fn errno_name(errno: Errno) -> &'static str {
            match errno {
                $(Errno::$constant => $name,)*
                _ => "unknown errno",
            }
        }
    };
}

names! {
    ACCESS => "EACCES",
    ADDRINUSE => "EADDRINUSE",
    ADDRNOTAVAIL => "EADDRNOTAVAIL",
    ADV => "EADV",
    AFNOSUPPORT => "EAFNOSUPPORT",
    AGAIN => "EAGAIN",
    ALREADY => "EALREADY",
    BADE => "EBADE",
    BADF => "EBADF",
    BADFD => "EBADFD",
    BADMSG => "EBADMSG",
    BADR => "EBADR",
    BADRQC => "EBADRQC",
    BADSLT => "EBADSLT",
    BFONT => "EBFONT",
    BUSY => "EBUSY",
    CANCELED => "ECANCELED",
    CHILD => "ECHILD",
    CHRNG => "ECHRNG",
    COMM => "ECOMM",
    CONNABORTED => "ECONNABORTED",
    CONNREFUSED => "ECONNREFUSED",
    CONNRESET => "ECONNRESET",
    DEADLK => "EDEADLK",
    DESTADDRREQ => "EDESTADDRREQ",
    DOM => "EDOM",
    DOTDOT => "EDOTDOT",
    DQUOT => "EDQUOT",
    EXIST => "EEXIST",
    FAULT => "EFAULT",
    FBIG => "EFBIG",
    HOSTDOWN => "EHOSTDOWN",
    HOSTUNREACH => "EHOSTUNREACH",
    HWPOISON => "EHWPOISON",
    IDRM => "EIDRM",
    ILSEQ => "EILSEQ",
    INPROGRESS => "EINPROGRESS",
    INTR => "EINTR",
    INVAL => "EINVAL",
    IO => "EIO",
    ISCONN => "EISCONN",
    ISDIR => "EISDIR",
    ISNAM => "EISNAM",
    KEYEXPIRED => "EKEYEXPIRED",
    KEYREJECTED => "EKEYREJECTED",
    KEYREVOKED => "EKEYREVOKED",
    L2HLT => "EL2HLT",
    L2NSYNC => "EL2NSYNC",
    L3HLT => "EL3HLT",
    L3RST => "EL3RST",
    LIBACC => "ELIBACC",
    LIBBAD => "ELIBBAD",
    LIBEXEC => "ELIBEXEC",
    LIBMAX => "ELIBMAX",
    LIBSCN => "ELIBSCN",
    LNRNG => "ELNRNG",
    LOOP => "ELOOP",
    MEDIUMTYPE => "EMEDIUMTYPE",
    MFILE => "EMFILE",
    MLINK => "EMLINK",
    MSGSIZE => "EMSGSIZE",
    MULTIHOP => "EMULTIHOP",
    NAMETOOLONG => "ENAMETOOLONG",
    NAVAIL => "ENAVAIL",
    NETDOWN => "ENETDOWN",
    NETRESET => "ENETRESET",
    NETUNREACH => "ENETUNREACH",
    NFILE => "ENFILE",
    NOANO => "ENOANO",
    NOBUFS => "ENOBUFS",
    NOCSI => "ENOCSI",
    NODATA => "ENODATA",
    NODEV => "ENODEV",
    NOENT => "ENOENT",
    NOEXEC => "ENOEXEC",
    NOKEY => "ENOKEY",
    NOLCK => "ENOLCK",
    NOLINK => "ENOLINK",
    NOMEDIUM => "ENOMEDIUM",
    NOMEM => "ENOMEM",
    NOMSG => "ENOMSG",
    NONET => "ENONET",
    NOPKG => "ENOPKG",
    NOPROTOOPT => "ENOPROTOOPT",
    NOSPC => "ENOSPC",
    NOSR => "ENOSR",
    NOSTR => "ENOSTR",
    NOSYS => "ENOSYS",
    NOTBLK => "ENOTBLK",
    NOTCONN => "ENOTCONN",
    NOTDIR => "ENOTDIR",
    NOTEMPTY => "ENOTEMPTY",
    NOTNAM => "ENOTNAM",
    NOTRECOVERABLE => "ENOTRECOVERABLE",
    NOTSOCK => "ENOTSOCK",
    NOTTY => "ENOTTY",
    NOTUNIQ => "ENOTUNIQ",
    NXIO => "ENXIO",
    OPNOTSUPP => "EOPNOTSUPP",
    OVERFLOW => "EOVERFLOW",
    OWNERDEAD => "EOWNERDEAD",
    PERM => "EPERM",
    PFNOSUPPORT => "EPFNOSUPPORT",
    PIPE => "EPIPE",
    PROTO => "EPROTO",
    PROTONOSUPPORT => "EPROTONOSUPPORT",
    PROTOTYPE => "EPROTOTYPE",
    RANGE => "ERANGE",
    REMCHG => "EREMCHG",
    REMOTE => "EREMOTE",
    REMOTEIO => "EREMOTEIO",
    RESTART => "ERESTART",
    RFKILL => "ERFKILL",
    ROFS => "EROFS",
    SHUTDOWN => "ESHUTDOWN",
    SOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
    SPIPE => "ESPIPE",
    SRCH => "ESRCH",
    SRMNT => "ESRMNT",
    STALE => "ESTALE",
    STRPIPE => "ESTRPIPE",
    TIME => "ETIME",
    TIMEDOUT => "ETIMEDOUT",
    TOOBIG => "E2BIG",
    TOOMANYREFS => "ETOOMANYREFS",
    TXTBSY => "ETXTBSY",
    UCLEAN => "EUCLEAN",
    UNATCH => "EUNATCH",
    USERS => "EUSERS",
    XDEV => "EXDEV",
    XFULL => "EXFULL",
}

/// Shows an errno by its name and its description: `ENOMEM (Cannot allocate memory)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained(pub Errno);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.0).to_string();
        let description = text.split(" (os error").next().unwrap_or(&text);
        write!(f, "{} ({description})", errno_name(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_linux_has_a_name() {
        // asm-generic/errno-base.h and asm-generic/errno.h: 1 to 133 without 41 and 58, which are aliases' old
        // numbers.
        for raw in (1..=133).filter(|raw| ![41, 58].contains(raw)) {
            let name = errno_name(Errno::from_raw_os_error(raw));
            assert!(name.starts_with('E'), "{raw} has no name");
        }
        assert_eq!(errno_name(Errno::from_raw_os_error(41)), "unknown errno");
        assert_eq!(errno_name(Errno::from_raw_os_error(4000)), "unknown errno");
    }

    #[test]
    fn names_are_the_usual_ones() {
        assert_eq!(errno_name(Errno::EXIST), "EEXIST");
        assert_eq!(errno_name(Errno::TOOBIG), "E2BIG");
        assert_eq!(errno_name(Errno::WOULDBLOCK), "EAGAIN");
        assert_eq!(errno_name(Errno::NOTSUP), "EOPNOTSUPP");
        assert_eq!(Explained(Errno::NOMEM).to_string(), "ENOMEM (Cannot allocate memory)");
    }
}
