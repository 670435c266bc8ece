use std::io;
use std::net::UdpSocket;

/// Answers each datagram with the text of `/full`, on a thread of its own.
pub fn serve(port: u16, name: String) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((_, peer)) => {
                    let answer = format!("I'm {name} and you are {}\n", peer.ip());
                    if let Err(error) = socket.send_to(answer.as_bytes(), peer) {
                        eprintln!("answer {peer}: {error}");
                    }
                }
                Err(error) => eprintln!("receive a datagram: {error}"),
            }
        }
    });
    Ok(())
}
