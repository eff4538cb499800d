//! What stands between a server and PostgreSQL: PgBouncer, and pgpool-II with a standby that lags.

use std::fs;
use std::process::Child;

use super::{Database, Folder, Server, program, serve_postgres, start_postgres};
use crate::harness::names::free_port;

/// A running pooler.
#[derive(Debug)]
pub struct Pooler {
    _guard: Child,
    /// Servers of its own.
    _servers: Vec<Server>,
    /// The database, by way of it.
    pub database: Database,
}

/// PgBouncer in front of a database, with Debian's settings but for `mode` and `settings` (lines).
pub fn pgbouncer(database: &Database, mode: &str, settings: &str) -> Pooler {
    let (folder, port) = (Folder::new(), free_port());
    let (host, name) = host_and_name(database);
    let (server, server_port) = host.split_once(':').expect("a port");
    let users = folder.path("users.txt");
    let lines = format!(
        "[databases]\n{name} = host={server} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {mode}\n\
         {settings}\n"
    );
    fs::write(&users, "\"test\" \"\"\n").expect("written");
    fs::write(folder.path("pgbouncer.ini"), lines).expect("written");
    let file = folder.path("pgbouncer.ini");
    let guard = folder.serve(&program("pgbouncer"), &[&file], "process up");
    Pooler { _guard: guard, _servers: Vec::new(), database: at(port, &name) }
}

/// pgpool-II in front of a new server and its standby, which is `delay` late and gets all reads that may be
/// balanced.
pub async fn pgpool(delay: &str) -> Pooler {
    let primary = start_postgres();
    let database = primary.create("postgres").await;
    let standby = standby_of(&primary, delay);
    let (folder, port) = (Folder::new(), free_port());
    let (_, name) = host_and_name(&database);
    let mut lines = format!(
        "backend_clustering_mode = 'streaming_replication'\nlisten_addresses = '127.0.0.1'\nport = {port}\n\
         pcp_listen_addresses = '127.0.0.1'\npcp_port = {}\nsocket_dir = '{folder}'\n\
         pcp_socket_dir = '{folder}'\nwd_ipc_socket_dir = '{folder}'\npid_file_name = '{folder}/pgpool.pid'\n\
         logdir = '{folder}'\nload_balance_mode = on\nsr_check_period = 0\nsr_check_user = 'test'\npool_passwd = ''\n\
         enable_pool_hba = off\nfailover_on_backend_error = off\nnum_init_children = 24\n",
        free_port(),
        folder = folder.path(""),
    );
    for (index, server, weight) in [(0, &primary, 0), (1, &standby, 1)] {
        let (_, address) = server.url.rsplit_once('@').expect("an address");
        let (host, port) = address.split_once(':').expect("a port");
        lines += &format!(
            "backend_hostname{index} = '{host}'\nbackend_port{index} = {port}\nbackend_weight{index} = {weight}\n\
             backend_flag{index} = 'DISALLOW_TO_FAILOVER'\n"
        );
    }
    let file = folder.path("pgpool.conf");
    fs::write(&file, lines).expect("written");
    let guard = folder.serve(&program("pgpool"), &["-n", "-f", &file], "successfully started");
    Pooler { _guard: guard, _servers: vec![standby, primary], database: at(port, &name) }
}

/// A standby that takes over what its primary did with a delay.
fn standby_of(primary: &Server, delay: &str) -> Server {
    let folder = Folder::new();
    let data = folder.path("data");
    folder
        .run(&program("pg_basebackup"), &["-d", &primary.url, "-D", &data, "-R", "-c", "fast", "--no-sync"]);
    let delay = format!("recovery_min_apply_delay={delay}");
    serve_postgres(folder, &[&delay])
}

/// `host:port` and the database's name.
fn host_and_name(database: &Database) -> (String, String) {
    let (_, rest) = database.url.rsplit_once('@').expect("a user");
    let (host, name) = rest.split_once('/').expect("a name");
    (host.to_owned(), name.to_owned())
}

fn at(port: u16, name: &str) -> Database {
    Database { url: format!("postgres://test@127.0.0.1:{port}/{name}") }
}
