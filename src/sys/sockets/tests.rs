//! Real sockets and real keys: who is let in, who is refused, and that it is counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::*;

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A PULL behind a door, at a port of its own.
fn pull(door: &Door) -> (GuardedSocket, String) {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PULL).unwrap();
    socket.set_rcvtimeo(200).unwrap();
    let guarded = door.bind(&context, socket, "tcp://127.0.0.1:*", "frames").unwrap();
    let at = guarded.get_last_endpoint().unwrap().unwrap();
    (guarded, at)
}

fn push(at: &str, keys: Option<&ClientKeys>) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_linger(0).unwrap();
    keys.inspect(|keys| keys.put_on(&socket).unwrap());
    socket.connect(at).unwrap();
    socket.send("hello", zmq::DONTWAIT).unwrap();
    socket
}

/// Bytes over a plain connection; returns when the other side has closed it.
fn say(at: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(at.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut rest);
}

/// One frame of ZMTP 1.0: length with the flags, flags, body.
fn zmtp_1(body: &[u8]) -> Vec<u8> {
    [&[body.len() as u8 + 1, 0], body].concat()
}

/// The requests of a web page, and of peers of the first two protocols: an identity and a message.
pub(crate) fn old_peers() -> Vec<(&'static str, Vec<u8>)> {
    let post = |body: &[u8]| {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    // `P` begins a frame of 80 bytes, which is what an HTTP request begins with.
    let padded = |body: &[u8]| post(&[&[b' '; 200][..], body].concat());
    let message = zmtp_1(b"shutdown");
    let version_2 = [&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1, 3, 0, 0][..], &[0, 8], b"shutdown"].concat();
    let version_1 = [&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0, 3, 0, 0][..], &[0, 8], b"shutdown"].concat();
    vec![
        ("a POST whose body is a frame", post(&message)),
        ("a POST whose body is many frames", post(&message.repeat(40))),
        ("a POST with room before its frame", padded(&message)),
        ("a GET", b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec()),
        ("ZMTP 1.0", [zmtp_1(b""), message.clone()].concat()),
        ("ZMTP 1.0 by its newer greeting", version_1),
        ("ZMTP 2.0", version_2),
    ]
}

#[test]
fn no_web_page_and_no_peer_older_than_zmtp_3_gets_a_message_in_and_each_is_counted() {
    let connections = Arc::new(Connections::default());
    let (socket, at) = pull(&Door::new(None, connections.clone()));
    let peers = old_peers();
    for (what, bytes) in &peers {
        let before = connections.refused.load(Relaxed);
        say(&at, bytes);
        assert_eq!(socket.recv_bytes(0), Err(zmq::Error::EAGAIN), "{what}");
        wait_for(what, || connections.refused.load(Relaxed) > before);
    }
    assert_eq!(connections.refused.load(Relaxed), peers.len() as u64);
    assert!(connections.notes.pop().unwrap().text.contains("older than ZMTP 3"));
    let _good = push(&at, None);
    assert_eq!(socket.recv_bytes(0).unwrap(), b"hello");
    wait_for("the count", || connections.let_in.load(Relaxed) == 1);
}

#[test]
fn without_a_guard_the_same_requests_are_messages() {
    let socket = zmq::Context::new().socket(zmq::PULL).unwrap();
    socket.set_rcvtimeo(5000).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let at = socket.get_last_endpoint().unwrap().unwrap();
    let mut stream = TcpStream::connect(at.trim_start_matches("tcp://")).unwrap();
    stream.write_all(&old_peers()[4].1).unwrap();
    assert_eq!(socket.recv_bytes(0).unwrap(), b"shutdown", "else these tests prove nothing");
}

#[test]
fn keys_on_the_list_are_let_in_by_name_and_all_others_are_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let [server, anna, mallory] = [(); 3].map(|()| KeyPair::generate().unwrap());
    anna.write(folder.path(), "anna").unwrap();
    let clients = Clients::of(folder.path()).unwrap();
    let connections = Arc::new(Connections::default());
    let keys = Arc::new(ServerKeys { pair: server.clone(), clients });
    let (socket, at) = pull(&Door::new(Some(keys), connections.clone()));
    let of = |pair: &KeyPair, server: &KeyPair| ClientKeys { pair: pair.clone(), server: *server.public() };
    let notes = || std::iter::from_fn(|| connections.notes.pop()).map(|note| note.text).collect::<Vec<_>>().join("\n");

    let others = [Some(of(&mallory, &server)), Some(of(&anna, &mallory)), None];
    for (n, keys) in (1..).zip(&others) {
        let refused = push(&at, keys.as_ref());
        assert_eq!(socket.recv_bytes(0), Err(zmq::Error::EAGAIN), "{n}");
        wait_for("the count", || connections.refused.load(Relaxed) >= n);
        drop(refused);
    }
    say(&at, &old_peers()[0].1);
    wait_for("the count", || connections.refused.load(Relaxed) >= 4);
    let said = notes();
    assert!(said.contains(&mallory.public().to_string()) && said.contains("127.0.0.1"), "{said}");
    assert_eq!(connections.let_in.load(Relaxed), 0);

    let _anna = push(&at, Some(&of(&anna, &server)));
    assert_eq!(socket.recv_bytes(0).unwrap(), b"hello");
    wait_for("her name", || notes().contains("frames: let in `anna` from 127.0.0.1"));
    // Added while it runs.
    mallory.write(folder.path(), "mallory").unwrap();
    let _mallory = push(&at, Some(&of(&mallory, &server)));
    assert_eq!(socket.recv_bytes(0).unwrap(), b"hello");
}

#[test]
fn a_secret_is_for_its_owner_only_and_never_overwritten_or_shown() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let [secret, public] = pair.write(folder.path(), "rig").unwrap();
    assert_eq!(std::fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    let again = KeyPair::read(&secret).unwrap();
    assert!(again.secret() == pair.secret() && again.public() == pair.public());
    assert_eq!(PublicKey::read(&public).unwrap(), *pair.public());
    let text = std::fs::read_to_string(&public).unwrap();
    assert!(!text.contains("secret") && text.contains(&pair.public().to_string()));
    assert!(pair.write(folder.path(), "rig").unwrap_err().to_string().contains("not overwritten"));
    assert_eq!(format!("{pair:?}"), format!("KeyPair({})", pair.public()));

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyPair::read(&secret).unwrap_err().to_string();
    assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    assert!(KeyPair::read(&public).is_err());
    for bad in ["", "public-key = \"short\"", "public-key = \"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\""] {
        std::fs::write(folder.path().join("bad.key"), bad).unwrap();
        assert!(
            PublicKey::read(&folder.path().join("bad.key")).unwrap_err().to_string().contains("public-key"),
            "{bad}"
        );
        assert!(Clients::of(folder.path()).is_err());
    }
    let nobody = tempfile::tempdir().unwrap();
    assert!(Clients::of(nobody.path()).unwrap_err().to_string().contains("nobody could connect"));
}

#[test]
fn an_endpoint_that_is_taken_is_refused_at_once() {
    let (_socket, at) = pull(&Door::default());
    let context = zmq::Context::new();
    let second = Door::default().bind(&context, context.socket(zmq::PULL).unwrap(), &at, "frames");
    assert_eq!(second.err(), Some(zmq::Error::EADDRINUSE));
}

#[test]
fn what_is_still_to_be_sent_when_a_guarded_socket_closes_is_sent() {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PUSH).unwrap();
    socket.set_linger(5000).unwrap();
    let guarded = Door::default().bind(&context, socket, "tcp://127.0.0.1:*", "frames").unwrap();
    let reader = zmq::Context::new().socket(zmq::PULL).unwrap();
    reader.set_rcvtimeo(10_000).unwrap();
    reader.connect(&guarded.get_last_endpoint().unwrap().unwrap()).unwrap();
    wait_for("the reader", || guarded.poll(zmq::POLLOUT, 0).unwrap() > 0);
    let part = vec![7u8; 1 << 20];
    (0..20).for_each(|_| guarded.send(&part, 0).unwrap());
    drop(context);
    drop(guarded);
    (0..20).for_each(|n| assert_eq!(reader.recv_bytes(0).unwrap().len(), part.len(), "{n}"));
}

/// Reads the sources: a socket that is bound elsewhere has no guard.
#[test]
fn no_other_file_binds_a_socket() {
    use std::path::{Path, PathBuf};
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }
    // The check of a port binds it for as long as it takes to close it again, and reads nothing.
    let allowed = ["sys/sockets/mod.rs", "sys/sockets/guard.rs", "cli/check/ports.rs"];
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let is_test = file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
        if is_test
            || file.extension().is_none_or(|suffix| suffix != "rs")
            || allowed.iter().any(|name| file.ends_with(name))
        {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        assert!(!code.contains("socket.bind("), "{}: use sys::sockets::Door", file.display());
    }
}
