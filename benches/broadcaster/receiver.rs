//! The endpoint that webhooks are sent to: answers 200 to whatever comes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::process::Cores;
use crate::server::Server;
use crate::wire::Head;

/// Its name on the command line.
pub const ROLE: &str = "webhook-receiver";

/// Starts the receiver beside the load generator, so that the server's core is the server's.
pub fn start(cores: Cores) -> io::Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    Server::spawn(ROLE, command.arg(ROLE), cores.generator, tempfile::tempdir()?)
}

/// Takes every request, until killed.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ready = serde_json::json!({ "public": listener.local_addr()?, "pid": std::process::id() });
    println!("{ready}");
    for stream in listener.incoming() {
        let stream = stream?;
        // One that breaks off has a server that was killed at the end of its run.
        thread::spawn(move || answer_all(stream));
    }
    Ok(())
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut bytes, mut scratch) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let size = stream.read(&mut scratch)?;
        if size == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&scratch[..size]);
        while let Some(head) = Head::scan(&bytes)? {
            let size = head.size + head.content_length();
            if bytes.len() < size {
                break;
            }
            bytes.drain(..size);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}
