//! For tests: a backend that answers as told, and a hub whose publications can be awaited.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::HeaderMap;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Endpoint;
use crate::apps::App;
use crate::config::{AppSettings, CallbackData, Secret, ServerSettings, StoreSettings};
use crate::http_client::Reach;
use crate::hub::{ConnectionLimits, Hub, RemotePublication, Uplink};
use crate::protocol::channel::ChannelName;
use crate::storage::Database;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub head: String,
    pub body: String,
}

impl Got {
    /// The only event in it.
    pub(crate) fn event(&self) -> Value {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body["events"].as_array().map(Vec::len), Some(1));
        body["events"][0].clone()
    }

    /// What its `data` says, which is a string.
    pub(crate) fn data(&self) -> Value {
        let event = self.event();
        serde_json::from_str(event["data"].as_str().expect("a string")).expect("JSON")
    }
}

/// What a backend does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status line's end, other headers, a body.
    Status(&'static str, &'static str),
    /// A status line's end; the body that is announced never comes.
    Head(&'static str),
    /// Nothing, ever.
    Hang,
    /// Closes.
    Close,
}

type Decide = dyn Fn(&Got) -> Reply + Send + Sync;

/// A backend; requests can be awaited.
pub(crate) struct Backend {
    pub address: SocketAddr,
    requests: UnboundedReceiver<Got>,
    decide: Arc<Mutex<Arc<Decide>>>,
}

impl Backend {
    pub(crate) async fn start(decide: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, requests) = unbounded_channel();
        let decide: Arc<Mutex<Arc<Decide>>> = Arc::new(Mutex::new(Arc::new(decide)));
        let deciding = Arc::clone(&decide);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone(), Arc::clone(&deciding)));
            }
        });
        Self { address, requests, decide }
    }

    pub(crate) fn change(&self, decide: impl Fn(&Got) -> Reply + Send + Sync + 'static) {
        *self.decide.lock().expect("not poisoned") = Arc::new(decide);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) async fn next(&mut self) -> Got {
        let next = tokio::time::timeout(Duration::from_secs(60), self.requests.recv()).await;
        next.expect("a request within a minute").expect("the backend runs")
    }

    /// What came and was not looked at.
    pub(crate) fn rest(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

async fn serve(mut stream: TcpStream, sender: UnboundedSender<Got>, decide: Arc<Mutex<Arc<Decide>>>) {
    while let Some(got) = read_request(&mut stream).await {
        let reply = decide.lock().expect("not poisoned").clone()(&got);
        // The test may have ended.
        let _ = sender.send(got);
        match reply {
            Reply::Head(status) => {
                let text = format!("HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\n{{");
                let _ = stream.write_all(text.as_bytes()).await;
                std::future::pending().await
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close => return,
            Reply::Status(status, body) => {
                let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                return Some(Got { head: head.to_owned(), body: body.to_owned() });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

impl Endpoint {
    /// An endpoint with everything by default.
    pub(crate) fn of(app: App, url: &str) -> Self {
        Self {
            name: "a backend".to_owned(),
            app: Arc::new(app),
            url: url.parse().expect("a URL"),
            timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(3600),
            headers: HeaderMap::new(),
            reach: Reach::default(),
            data: CallbackData::String,
            keeps_log: false,
            max_rows: super::MAX_ROWS,
            drops_waiting: true,
        }
    }
}

/// Publications of a hub: channel, event, data.
pub(crate) type Published = UnboundedReceiver<(String, String, Value)>;

struct Recorder(UnboundedSender<(String, String, Value)>);

impl Uplink for Recorder {
    fn publish(&self, _: &str, publication: &RemotePublication) {
        let frame: Value = serde_json::from_slice(publication.frame.payload()).expect("JSON");
        let data = frame["data"].as_str().expect("a string");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let data = serde_json::from_str(data).expect("JSON");
        let _ = self.0.send((text(&frame["channel"]), text(&frame["event"]), data));
    }

    fn interest(&self, _: &str, _: &ChannelName, _: bool) {}
}

/// A hub with these apps.
pub(crate) fn hub(apps: Vec<AppSettings>) -> (Hub, Published) {
    let (sender, published) = unbounded_channel();
    let limits = ConnectionLimits::new(&ServerSettings::default());
    let hub = Hub::new(1, limits, Arc::new(Recorder(sender)));
    hub.set_apps(apps);
    (hub, published)
}

/// The store in this folder; or, when `SWITCHBOARD_TEST_POSTGRES` is a `postgres://` URL, in the schema there
/// that is named after the folder.
pub(crate) fn store(folder: &Path) -> Database {
    if let Ok(url) = std::env::var("SWITCHBOARD_TEST_POSTGRES") {
        let name = folder.file_name().expect("a name").to_string_lossy();
        let name = format!("outbox_{}_{}", std::process::id(), hex::encode(name.as_bytes()));
        let join = if url.contains('?') { '&' } else { '?' };
        let scoped = Secret::new(format!("{url}{join}options[search_path]={name}"));
        create_schema(url, name);
        let settings = StoreSettings { url: scoped, pool: 4, ..StoreSettings::default() };
        return Database::open(&settings, folder).expect("a store");
    }
    let settings =
        StoreSettings { url: Secret::new("sqlite:store.db".to_owned()), ..StoreSettings::default() };
    Database::open(&settings, folder).expect("a store")
}

fn create_schema(url: String, name: String) {
    let work = async move {
        let options: PgConnectOptions = url.parse().expect("a URL");
        let mut connection = options.connect().await.expect("PostgreSQL");
        let command = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {name}"));
        sqlx::raw_sql(command).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::spawn(move || runtime().block_on(work)).join().expect("done");
}
