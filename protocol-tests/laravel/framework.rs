//! Laravel 8, from Debian's packages, configured with the printed blocks: its auth route, its events and its
//! reading of `.env`. The SDK below it is a stand-in (`clients/laravel/Pusher.php`), as the package comes
//! through Composer only; what PHP itself encodes is real.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{documented_file, fenced, printed, printed_for, write};
use crate::clients::Driver;
use crate::documentation::read;
use crate::harness::server::{Config, TestServer};
use crate::harness::ws::WsClient;

/// Lines as in a project's `.env` before anything is pasted below them.
const FRESH: &str = "APP_NAME=Laravel\nAPP_ENV=local\nBROADCAST_DRIVER=log\nBROADCAST_CONNECTION=log\nPUSHER_APP_KEY=\n\
                     PUSHER_PORT=443\nPUSHER_SCHEME=https\n\n";

/// `config/broadcasting.php`. For the form `reverb` as Laravel 11 to 13 have it, but for the driver's name: there
/// `reverb` is another name of `pusher`.
fn broadcasting(form: &str) -> String {
    let (default, prefix) =
        if form == "reverb" { ("BROADCAST_CONNECTION", "REVERB") } else { ("BROADCAST_DRIVER", "PUSHER") };
    let options = if form == "reverb" {
        "'options' => ['host' => env('REVERB_HOST'), 'port' => env('REVERB_PORT', 443), \
         'scheme' => env('REVERB_SCHEME', 'https'), 'useTLS' => env('REVERB_SCHEME', 'https') === 'https'],"
            .to_owned()
    } else {
        printed(&["broadcasting", "--form", "mix", "--example"])
    };
    let name = prefix.to_ascii_lowercase();
    format!(
        "<?php return ['default' => env('{default}', 'null'), 'connections' => ['{name}' => [\
         'driver' => 'pusher', 'key' => env('{prefix}_APP_KEY'), 'secret' => env('{prefix}_APP_SECRET'), \
         'app_id' => env('{prefix}_APP_ID'),\n{options}]]];\n"
    )
}

/// Starts the application with a block pasted at the end of its `.env`.
fn application(form: &str, env: &str) -> (Driver, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    write(folder.path(), ".env", &format!("{FRESH}{env}"));
    write(folder.path(), "config/broadcasting.php", &broadcasting(form));
    let page = read("docs/laravel.md").expect("the page");
    let section = page.split_once("### 7. Private and presence channels").expect("the section").1;
    let callbacks = fenced(section);
    let channels = format!(
        "<?php\nuse Illuminate\\Support\\Facades\\Broadcast;\n{callbacks}Broadcast::channel('empty', fn ($user) => []);\n"
    );
    write(folder.path(), "routes/channels.php", &channels);
    let event = "app/Events/OrderShipped.php";
    write(folder.path(), event, &documented_file(event));
    (Driver::php("laravel/app.php", &[folder.path().to_str().expect("text")]), folder)
}

fn for_server(server: &TestServer, form: &str) -> (Driver, TempDir) {
    application(form, &printed_for(server, "env", form))
}

/// What the auth route answers to this user.
async fn authorize(laravel: &mut Driver, client: &WsClient, channel: &str, user: Value) -> Value {
    let form = json!({"socket_id": client.socket_id, "channel_name": channel});
    laravel.ask("authorize", json!({"form": form, "user": user})).await
}

#[tokio::test]
async fn an_event_reaches_the_channel_that_the_auth_route_allows() {
    event_and_auth_route("mix").await;
}

#[tokio::test]
async fn an_event_of_the_connection_reverb_does_too() {
    event_and_auth_route("reverb").await;
}

async fn event_and_auth_route(form: &str) {
    let server = Config::new().start();
    let (mut laravel, _folder) = for_server(&server, form);
    let mut client = WsClient::connect(&server).await;
    let ann = json!({"id": 1, "name": "Ann"});

    let answer = authorize(&mut laravel, &client, "private-orders.1", ann.clone()).await;
    assert_eq!(answer["status"], 200);
    let mut subscription = answer["body"].clone();
    subscription["channel"] = "private-orders.1".into();
    client.send_json(&json!({"event": "pusher:subscribe", "data": subscription})).await;
    client.wait_for("pusher_internal:subscription_succeeded").await;

    laravel.ask("broadcast", json!({"order": 7})).await;
    let event = client.wait_for(r"App\Events\OrderShipped").await.json();
    assert_eq!(event, json!({"order": 7}));

    let socket = client.socket_id.clone();
    laravel.ask("broadcast", json!({"order": 8, "socket": socket})).await;
    laravel.ask("broadcast", json!({"order": 9})).await;
    let event = client.wait_for(r"App\Events\OrderShipped").await.json();
    assert_eq!(event["order"], 9, "toOthers leaves out the sender");
}

#[tokio::test]
async fn a_presence_callback_admits_with_an_array_and_refuses_with_an_empty_one() {
    let server = Config::new().start();
    let (mut laravel, _folder) = for_server(&server, "mix");
    let mut client = WsClient::connect(&server).await;
    let ann = json!({"id": 1, "name": "Ann"});

    let answer = authorize(&mut laravel, &client, "presence-lobby", ann.clone()).await;
    let mut subscription = answer["body"].clone();
    subscription["channel"] = "presence-lobby".into();
    client.send_json(&json!({"event": "pusher:subscribe", "data": subscription})).await;
    let members = client.wait_for("pusher_internal:subscription_succeeded").await.json();
    assert_eq!(members["presence"]["hash"], json!({"1": ann}));

    for (channel, user) in
        [("presence-empty", ann.clone()), ("private-orders.2", ann), ("private-orders.1", Value::Null)]
    {
        assert_eq!(authorize(&mut laravel, &client, channel, user).await["status"], 403, "{channel}");
    }
}

/// Laravel 8 to 13 read `.env` with the same library.
#[tokio::test]
async fn each_env_block_is_read_as_meant_at_the_end_of_a_fresh_file() {
    for (form, prefix, page) in
        [("reverb", "REVERB", "VITE"), ("pusher", "PUSHER", "VITE"), ("mix", "PUSHER", "MIX")]
    {
        let block = printed(&["env", "--form", form, "--example"]);
        let (mut laravel, _folder) = application(form, &block);
        let names = ["APP_ID", "APP_KEY", "APP_SECRET", "HOST", "PORT", "SCHEME"]
            .map(|name| format!("{prefix}_{name}"));
        let of_the_page = ["APP_KEY", "HOST", "PORT", "SCHEME"].map(|name| format!("{page}_{prefix}_{name}"));
        let driver = if form == "reverb" { "BROADCAST_CONNECTION" } else { "BROADCAST_DRIVER" };
        let all: Vec<_> = names.iter().chain(&of_the_page).map(String::as_str).chain([driver]).collect();
        let found = laravel.ask("environment", json!({"names": all})).await;
        let values = ["1001", "portal-key", "portal-secret", "127.0.0.1", "6001", "http"];
        for (name, value) in names.iter().zip(values) {
            assert_eq!(found[name], value, "{form}: {name}");
        }
        for (name, value) in of_the_page.iter().zip(["portal-key", "127.0.0.1", "6001", "http"]) {
            assert_eq!(found[name], value, "{form}: {name}");
        }
        assert_eq!(found[driver], if form == "reverb" { "reverb" } else { "pusher" });
    }
}
