//! Debian's reverse proxies, each started with a configuration of its own on a free port of loopback.
//!
//! Nothing of the system's own configuration is read, and whatever a proxy writes goes into a folder that is removed
//! with it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::DEADLINE;
use super::server::{Output, end_with_us};

/// A proxy that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
    HaProxy,
    Apache,
    Lighttpd,
    Varnish,
}

/// Where a proxy will listen and what it may use; made before its configuration is written.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    pub port: u16,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    guard: Child,
    output: Output,
    site: Site,
}

impl Site {
    /// A free port and a folder with a certificate for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (chain, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
        for (file, text) in [("cert.pem", &chain), ("key.pem", &key), ("both.pem", &(chain.clone() + &key))] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        Self { folder, port }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The certificate, which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// Runs a proxy with this configuration and waits until it listens. `config` is what an operator writes for one
    /// site: what nginx, Caddy and Apache need around it is added.
    pub fn start(self, kind: Kind, config: &str) -> Proxy {
        let (program, file) = kind.program();
        let file = self.path(file);
        std::fs::write(&file, kind.surround(&self, config)).expect("written");
        let mut command = Command::new(installed(program));
        command.args(kind.arguments(&self, &file)).current_dir(self.folder.path());
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, self.folder.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        let output = Output::default();
        output.follow(child.stdout.take().expect("piped"), |_| {});
        output.follow(child.stderr.take().expect("piped"), |_| {});
        let guard = end_with_us(child.id());
        let mut proxy = Proxy { child, guard, output, site: self };
        proxy.listens();
        proxy
    }
}

impl Proxy {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site.port))
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    fn listens(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none() && start.elapsed() < DEADLINE, "{ended:?}\n{}", self.output.text());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the proxy wrote ---\n{}---", self.output.tail(40));
        }
        // The guard first: once the proxy is reaped, its number could be another process's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        // Asked to end, each of them takes its own processes along.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "nginx.conf"),
            Self::Caddy => ("caddy", "Caddyfile"),
            Self::HaProxy => ("haproxy", "haproxy.cfg"),
            Self::Apache => ("apache2", "apache.conf"),
            Self::Lighttpd => ("lighttpd", "lighttpd.conf"),
            Self::Varnish => ("varnishd", "default.vcl"),
        }
    }

    fn arguments(self, site: &Site, file: &Path) -> Vec<String> {
        let file = file.display();
        let line = match self {
            Self::Nginx => format!("-c {file} -e stderr"),
            Self::Caddy => format!("run --config {file} --adapter caddyfile"),
            Self::HaProxy => format!("-db -f {file}"),
            Self::Apache => format!("-DFOREGROUND -f {file}"),
            Self::Lighttpd => format!("-D -f {file}"),
            Self::Varnish => {
                let (port, folder) = (site.port, site.path("varnish"));
                let folder = folder.display();
                format!(
                    "-F -j none -a 127.0.0.1:{port} -f {file} -n {folder} -s malloc,20m -T none -p pipe_timeout=3"
                )
            }
        };
        line.split(' ').map(str::to_owned).collect()
    }

    /// The site's configuration within the file that makes a whole server of it.
    fn surround(self, site: &Site, config: &str) -> String {
        let (folder, port) = (site.folder.path().display(), site.port);
        match self {
            Self::Nginx => {
                // As another user the workers could not use the folder.
                let user = if getuid().is_root() { "user root;" } else { "" };
                let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
                    .concat();
                format!(
                    "daemon off;\n{user}\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n    \
                     access_log {folder}/access.log;\n{paths}{config}}}\n"
                )
            }
            Self::Caddy => format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{config}"),
            Self::Apache => {
                let modules: String = [
                    "mpm_event",
                    "authz_core",
                    "proxy",
                    "proxy_http",
                    "ssl",
                    "headers",
                    "http2",
                    "socache_shmcb",
                ]
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
                format!(
                    "ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/apache.pid\nErrorLog \
                     {folder}/error.log\nServerName localhost\nListen 127.0.0.1:{port}\nUser www-data\nGroup \
                     www-data\n{modules}{config}"
                )
            }
            Self::HaProxy | Self::Lighttpd | Self::Varnish => config.to_owned(),
        }
    }
}

/// The path of a program that `make test` installs.
fn installed(program: &str) -> PathBuf {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is missing: run `make test` once, which installs it"))
}
