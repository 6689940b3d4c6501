use std::io::{self, BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::play::Player;
use super::request_log::LoggedRequest;
use super::state::Shared;
use crate::http::{Head, read_head};

/// Takes connections until the state says otherwise, then waits for their threads.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if !shared.lock().accepting {
            break;
        }
        // An error here is one of a peer that has gone already.
        let Ok((stream, _)) = accepted else { continue };
        connections.retain(|connection| !connection.is_finished());
        let (stream, shared) = (Arc::new(stream), Arc::clone(shared));
        let id = shared.change(|state| state.connect(&stream));
        connections.push(thread::spawn(move || {
            // The only errors are those of a client that left or a test that ended the connection.
            let _ = serve(&shared, id, &stream);
            shared.change(|state| state.disconnect(id));
        }));
    }
    shared.change(super::state::State::disconnect_all);
    for connection in connections {
        // A panic of the thread has been printed by itself; the client saw a cut connection.
        let _ = connection.join();
    }
}

fn serve(shared: &Shared, id: u64, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        skip_body(&mut reader, &head)?;
        let request = LoggedRequest::new(&head, id);
        shared.change(|state| state.log.push(request.clone()));
        let player = Player {
            shared,
            id,
            stream,
            path: &request.path,
            head_only: request.method == "HEAD",
        };
        let wants_close = head
            .header("connection")
            .is_some_and(|value| value.to_ascii_lowercase().contains("close"));
        if !player.answer(&head)? || wants_close || !head.first_line.ends_with("/1.1") {
            break;
        }
    }
    Ok(())
}

fn skip_body(reader: &mut impl BufRead, head: &Head) -> io::Result<()> {
    let length = head.header("content-length").and_then(|length| length.parse().ok());
    io::copy(&mut reader.take(length.unwrap_or(0)), &mut io::sink()).map(|_| ())
}
