//! Signed requests through real proxies that decode paths and queries and encode them again: nginx where
//! `proxy_pass` has a URI or a `rewrite` stands before it, lighttpd with the `server.http-parseopts` of Debian.

use std::process::Command;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::DEADLINE;
use crate::harness::http::{Request, exchange};
use crate::harness::names::free_port;
use crate::harness::script::Script;
use crate::harness::shared::{COUNTING, shared};
use crate::harness::sign::App;

/// A proxy that runs while this lives.
struct Proxy {
    port: u16,
    _process: Script,
    _folder: TempDir,
}

impl Proxy {
    async fn start(program: &str, args: &[&str], file: &str, configuration: &str) -> Self {
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let home = folder.path().display().to_string();
        let configuration = configuration.replace("{port}", &port.to_string()).replace("{home}", &home);
        std::fs::write(folder.path().join(file), configuration).expect("written");
        let mut command = Command::new(program);
        command.args(args.iter().map(|arg| arg.replace("{home}", &home))).current_dir(folder.path());
        let process = Script::spawn(command);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(start.elapsed() < DEADLINE, "{program} does not listen");
            tokio::task::yield_now().await;
        }
        Self { port, _process: process, _folder: folder }
    }

    async fn nginx(server: u16) -> Self {
        let configuration = format!(
            "daemon off; pid {{home}}/pid; error_log stderr; events {{}}
             http {{
               access_log off; client_body_temp_path {{home}}/body; proxy_temp_path {{home}}/proxy;
               fastcgi_temp_path {{home}}/fastcgi; uwsgi_temp_path {{home}}/uwsgi; scgi_temp_path {{home}}/scgi;
               server {{
                 listen 127.0.0.1:{{port}};
                 location /pusher/ {{ proxy_pass http://127.0.0.1:{server}/; }}
                 location /rewritten/ {{ rewrite ^/rewritten/(.*)$ /$1 break; proxy_pass http://127.0.0.1:{server}; }}
               }}
             }}"
        );
        let args = ["-p", "{home}", "-e", "stderr", "-c", "{home}/nginx.conf"];
        Self::start("/usr/sbin/nginx", &args, "nginx.conf", &configuration).await
    }

    async fn lighttpd(server: u16) -> Self {
        let configuration = format!(
            "server.document-root = \"{{home}}\"
             server.bind = \"127.0.0.1\"
             server.port = {{port}}
             server.modules = (\"mod_proxy\")
             server.http-parseopts = (
               \"header-strict\" => \"enable\", \"host-strict\" => \"enable\", \"host-normalize\" => \"enable\",
               \"url-normalize-unreserved\" => \"enable\", \"url-normalize-required\" => \"enable\",
               \"url-ctrls-reject\" => \"enable\", \"url-path-2f-decode\" => \"disable\",
               \"url-path-2f-reject\" => \"enable\", \"url-path-dotseg-remove\" => \"disable\",
               \"url-path-dotseg-reject\" => \"enable\", \"url-query-20-plus\" => \"disable\"
             )
             proxy.server = (\"\" => ((\"host\" => \"127.0.0.1\", \"port\" => {server})))
             proxy.header = (\"map-urlpath\" => (\"/pusher/\" => \"/\", \"/rewritten/\" => \"/\"))"
        );
        let args = ["-D", "-f", "{home}/lighttpd.conf"];
        Self::start("/usr/sbin/lighttpd", &args, "lighttpd.conf", &configuration).await
    }

    /// Sends a request through it, whose signature does not cover the prefix.
    async fn accepts(&self, prefix: &str, request: &Request, target: &str) {
        let target = format!("{prefix}{target}");
        let bytes = request.clone().header("Connection", "close").bytes_with_target(&target);
        let answer = exchange(([127, 0, 0, 1], self.port).into(), bytes).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    }
}

/// Requests whose paths and values have what proxies decode or encode, as SDKs and callers write them.
fn requests(app: &App) -> Vec<(Request, String)> {
    let get = |rest: &str| Request::get(app, &app.path(rest));
    let mut requests: Vec<(Request, String)> = [
        get("channels/presence-a=b@c,d;e/users"),
        get("channels/presence-a%3Db%40c%2Cd%3Be/users"),
        get("channels/presence-a%3db%40c%2cd%3be"),
        get("channels").param("filter_by_prefix", "presence-").param("info", "user_count,subscription_count"),
        get("channels").param("info[0]", "subscription_count"),
        get("channels").param("info[]", "subscription_count"),
        get("channels").param("filter_by_prefix", "grün & \"weiß\" 100%"),
        Request::post(app, &app.path("users/a%40b%2Cc/terminate_connections"), "{}"),
        Request::post(app, &app.path("users/a@b,c/terminate_connections"), "{}"),
        Request::trigger(app, &json!({"name": "e", "channel": "c", "data": "1"})),
    ]
    .into_iter()
    .map(|request| {
        let target = request.target();
        (request, target)
    })
    .collect();
    // Values that the caller encoded, which are signed as they are sent.
    for sent in ["presence-a%2Cb", "presence-a%2cb", "gr%C3%BCn%20x", "gr%c3%bcn+x", "a%3D%26b"] {
        let request = get("channels").param("filter_by_prefix", sent);
        let target = request.target().replace(&sent.replace('%', "%25").replace('+', "%2B"), sent);
        requests.push((request, target));
    }
    requests
}

#[tokio::test]
async fn signed_requests_pass_through_nginx_with_a_uri_and_with_a_rewrite() {
    let server = shared();
    let proxy = Proxy::nginx(server.public.port()).await;
    for (request, target) in requests(server.app_with_id(COUNTING)) {
        for prefix in ["/pusher", "/rewritten"] {
            proxy.accepts(prefix, &request, &target).await;
        }
    }
}

#[tokio::test]
async fn signed_requests_pass_through_lighttpd_as_debian_configures_it() {
    let server = shared();
    let proxy = Proxy::lighttpd(server.public.port()).await;
    for (request, target) in requests(server.app_with_id(COUNTING)) {
        for prefix in ["", "/pusher"] {
            proxy.accepts(prefix, &request, &target).await;
        }
    }
}
