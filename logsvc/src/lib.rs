//! logsvc
