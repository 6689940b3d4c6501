//! The command's end of `control.sock`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{PATIENCE, Reply, Request, short_path};
use crate::appliance::control_socket;

/// Asks the server that runs on `data_dir`. `None`: no server runs there.
pub fn ask(data_dir: &Path, request: &Request) -> io::Result<Option<Reply>> {
    let path = control_socket(data_dir);
    if !path.exists() {
        return Ok(None);
    }
    let (_dir, short) = short_path(&path)?;
    match UnixStream::connect(short) {
        Ok(stream) => converse(stream, request, PATIENCE).map(Some),
        // left over from a server that was killed
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

fn converse(mut stream: UnixStream, request: &Request, patience: Duration) -> io::Result<Reply> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut json = serde_json::to_vec(request)?;
    json.push(b'\n');
    let said = stream.write_all(&json);
    said.and_then(|()| read_reply(stream))
        .map_err(|error| in_words(error, patience))
}

fn read_reply(stream: UnixStream) -> io::Result<Reply> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if !line.is_empty() {
            return Ok(serde_json::from_str(&line)?);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn in_words(error: io::Error, patience: Duration) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    let words = match error.kind() {
        WouldBlock | TimedOut => format!(
            "the server has not said a word for {} s: it hangs",
            patience.as_secs_f32()
        ),
        UnexpectedEof | BrokenPipe | ConnectionReset => "the server ended before it had answered".to_owned(),
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command makes of a server that says this and then hangs up, or hangs if it says nothing.
    fn heard(says: &'static [&'static str]) -> Result<String, String> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let theirs = scope.spawn(move || {
                let mut request = String::new();
                BufReader::new(&theirs).read_line(&mut request).unwrap();
                for line in says {
                    (&theirs).write_all(line.as_bytes()).unwrap();
                }
                // one that hangs keeps its end open
                says.is_empty().then_some(theirs)
            });
            let reply = converse(ours, &Request::Pins, Duration::from_millis(200));
            drop(theirs.join());
            reply.map(|reply| reply.message).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn signs_of_life_are_passed_over_and_the_end_of_a_server_is_said_in_words() {
        let reply = "{\"ok\":true,\"message\":\"done\"}\n";
        assert_eq!(heard(Box::leak(Box::new(["\n", "\n", reply]))), Ok("done".to_owned()));
        let ended = Err("the server ended before it had answered".to_owned());
        assert_eq!(heard(&["\n"]), ended);
        assert_eq!(heard(&["{\"ok\":tr"]), ended);
        let hangs = Err("the server has not said a word for 0.2 s: it hangs".to_owned());
        assert_eq!(heard(&[]), hangs);
    }
}
