//! The contract on a server and on a cluster.
