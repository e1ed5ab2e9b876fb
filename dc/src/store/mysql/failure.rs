//! What a failed statement means. Pure.
//!
//! The rule for errors of the server: those that are about the data (SQLSTATE classes 22 data, 23 constraints, 45 raised by a trigger, and
//! a few without a class of their own) are the row's fault and come again however often it is tried; all others are the server's, and pass
//! when somebody repairs it. So a table that is missing stops the drain with an alarm, and sets nobody's record aside.

use mysql_async::{DriverError, Error, IoError, ServerError};

use crate::store::StoreError;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Another transaction was in the way and this one was rolled back: the same may go well at once.
    Conflict,
    /// The connection is gone, and with it the answer: whether the statement was done is unknown.
    Lost,
    /// The server can't now; the same may go well later.
    Unavailable,
    /// The server does not take this content.
    Refused,
    /// Another dc has the database.
    Fatal,
}

/// Why a statement was not done, or not known to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub class: Class,
    /// One word for metrics: `read_only`, `disk_full`.
    pub reason: &'static str,
    pub text: String,
}

impl Failure {
    pub(super) fn new(class: Class, reason: &'static str, text: impl Into<String>) -> Self {
        Self { class, reason, text: text.into() }
    }

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::new(Class::Refused, "data", text)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.class {
            Class::Conflict | Class::Lost | Class::Unavailable => StoreError::Unavailable(failure.text),
            Class::Refused => StoreError::Refused(failure.text),
            Class::Fatal => StoreError::Fatal(failure.text),
        }
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        let text = err.to_string();
        match err {
            Error::Server(err) => of_server(&err),
            err if is_of_tls(&err) => Failure::new(
                Class::Unavailable,
                "tls",
                format!(
                    "{text}; with `mysql.ca` the server has to have TLS, and a certificate for its host that one of those in the file signed"
                ),
            ),
            Error::Io(_) | Error::Other(_) => Failure::new(Class::Lost, "lost", text),
            Error::Driver(DriverError::PacketTooLarge) => Failure::refused("it is larger than the server's max_allowed_packet"),
            Error::Driver(DriverError::FromRow { .. } | DriverError::FromValue { .. }) => Failure::refused(text),
            Error::Driver(_) => Failure::new(Class::Lost, "lost", text),
            Error::Url(_) => Failure::new(Class::Unavailable, "access", text),
        }
    }
}

/// Whether there is no TLS with this server, as it is and as the zone file wants it.
fn is_of_tls(err: &Error) -> bool {
    match err {
        Error::Io(IoError::Tls(_)) | Error::Driver(DriverError::NoClientSslFlagFromServer) => true,
        Error::Io(IoError::Io(err)) => err.get_ref().is_some_and(|err| err.is::<rustls::Error>()),
        _ => false,
    }
}

fn of_server(err: &ServerError) -> Failure {
    let (class, reason) = match err.code {
        1213 | 3101 => (Class::Conflict, "deadlock"),
        1205 => (Class::Conflict, "lock_wait"),
        1020 | 1412 | 1615 => (Class::Conflict, "schema_changed"),
        // The server ends, or ended this connection or statement.
        1053 | 1077..=1079 | 1152 | 1158..=1161 | 1184 | 1317 | 1927 | 2006 | 2013 | 3168 | 3169 | 4031 => (Class::Lost, "lost"),
        1290 | 1792 | 1836 => (Class::Unavailable, "read_only"),
        // 1026, 1030 and 1180 pass on what the operating system said: 28 is ENOSPC.
        1021 | 1114 => (Class::Unavailable, "disk_full"),
        1026 | 1030 | 1180 if err.message.contains("28") => (Class::Unavailable, "disk_full"),
        1040 | 1203 | 1226 => (Class::Unavailable, "connections"),
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 => (Class::Unavailable, "access"),
        1048 | 1062 | 1264 | 1265 | 1292 | 1300 | 1366 | 1406 | 1451 | 1452 | 1586 | 1644 | 3819 | 4025 => (Class::Refused, "data"),
        1105 if err.message.contains("long_data") => (Class::Refused, "data"),
        1153 => (Class::Refused, "data"),
        _ if ["22", "23", "45"].iter().any(|class| err.state.starts_with(class)) => (Class::Refused, "data"),
        1049 | 1054 | 1136 | 1146 | 1364 => (Class::Unavailable, "schema"),
        _ => (Class::Unavailable, "other"),
    };
    Failure::new(class, reason, format!("{} (error {}, {})", err.message, err.code, err.state))
}

/// Whether the connection is of no more use after this error.
pub(super) fn breaks_connection(err: &Error) -> bool {
    match err {
        Error::Server(err) => of_server(err).class == Class::Lost || err.code == 1153,
        other => other.is_fatal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: u16, state: &str, message: &str) -> (Class, &'static str) {
        let failure = Failure::from(Error::Server(ServerError { code, message: message.into(), state: state.into() }));
        (failure.class, failure.reason)
    }

    #[test]
    fn what_is_the_rows_fault_is_told_from_what_is_the_servers() {
        assert_eq!(class(1213, "40001", "Deadlock found"), (Class::Conflict, "deadlock"));
        assert_eq!(class(1205, "HY000", "Lock wait timeout"), (Class::Conflict, "lock_wait"));
        assert_eq!(class(1053, "08S01", "Server shutdown in progress"), (Class::Lost, "lost"));
        for (code, reason) in [(1290, "read_only"), (1836, "read_only"), (1021, "disk_full"), (1114, "disk_full"), (1040, "connections")] {
            assert_eq!(class(code, "HY000", ""), (Class::Unavailable, reason));
        }
        assert_eq!(class(1030, "HY000", "Got error 28 from storage engine"), (Class::Unavailable, "disk_full"));
        assert_eq!(class(1146, "42S02", "Table doesn't exist"), (Class::Unavailable, "schema"), "nobody's record is at fault");
        assert_eq!(class(1045, "28000", "Access denied"), (Class::Unavailable, "access"));
        for (code, state) in [(1406, "22001"), (1366, "22007"), (1062, "23000"), (1644, "45000"), (4025, "23000"), (9999, "22018")] {
            assert_eq!(class(code, state, "").0, Class::Refused, "{code}");
        }
        assert_eq!(class(9999, "HY000", "").0, Class::Unavailable, "in doubt nothing is set aside");
    }

    #[test]
    fn a_lost_connection_is_no_answer() {
        let lost = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(breaks_connection(&lost));
        assert_eq!(Failure::from(lost).class, Class::Lost);
        assert_eq!(StoreError::from(Failure::new(Class::Lost, "lost", "x")), StoreError::Unavailable("x".into()));
    }
}
