//! The proxy in front of Redis reads commands and replies, however they are cut into packets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proxy::{Action, Kind, Proxy, Rule, from_client, from_server};
use crate::support::{namespace, redis_addr};

fn command(words: &[&str]) -> Vec<u8> {
    let words_only: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{words_only}", words.len()).into_bytes()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address).await.unwrap()
}

/// Everything until this has come, or the end.
async fn read_until(stream: &mut TcpStream, last: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(last.as_bytes()) {
        if !matches!(stream.read_buf(&mut all).await, Ok(1..)) {
            break;
        }
    }
    String::from_utf8(all).unwrap()
}

async fn get(key: &str) -> String {
    let mut direct = TcpStream::connect(redis_addr()).await.unwrap();
    direct.write_all(&command(&["GET", key])).await.unwrap();
    let mut answer = vec![0; 64];
    let length = direct.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_command_is_found_by_its_words_in_the_middle_of_a_flight() {
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (a, b) = (namespace(), namespace());
    let rule = proxy.rule(from_client(Kind::Command).containing(&format!("SET {b} 2")), Action::Close);
    let mut client = connect(&proxy).await;
    let flight = [command(&["SET", &a, "1"]), command(&["SET", &b, "2"]), command(&["DEL", &a])].concat();
    client.write_all(&flight).await.unwrap();
    read_until(&mut client, "never").await;
    assert_eq!(rule.times(), 1);
    crate::support::engine::until("the first command", async || get(&a).await == "$1\r\n1\r\n").await;
    assert_eq!(get(&b).await, "$-1\r\n");
}

#[tokio::test]
async fn a_flight_is_held_whole_and_delivered_whole() {
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (a, b) = (namespace(), namespace());
    let trigger = from_client(Kind::Command).containing(&b).with_its_flight();
    let rule: Rule = proxy.rule(trigger, Action::Hold);
    let mut client = connect(&proxy).await;
    let flight = [command(&["SET", &a, "1"]), command(&["SET", &b, "2"])].concat();
    client.write_all(&flight).await.unwrap();
    rule.fired().await;
    drop(client);
    assert_eq!((get(&a).await, get(&b).await), ("$-1\r\n".to_owned(), "$-1\r\n".to_owned()));
    rule.release();
    rule.delivered().await;
    assert_eq!((get(&a).await, get(&b).await), ("$1\r\n1\r\n".to_owned(), "$1\r\n2\r\n".to_owned()));
}

#[tokio::test]
async fn commands_and_replies_may_come_byte_by_byte() {
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let key = namespace();
    let answers = proxy.rule(from_server(Kind::Reply).each(), Action::Delay(std::time::Duration::ZERO));
    let mut client = connect(&proxy).await;
    client.set_nodelay(true).unwrap();
    let words =
        [vec!["HELLO", "3"], vec!["SET", &key, "a\r\nb"], vec!["MGET", &key, "none"], vec!["ECHO", "end"]];
    for byte in words.iter().flat_map(|words| command(words)) {
        client.write_all(&[byte]).await.unwrap();
    }
    let said = read_until(&mut client, "$3\r\nend\r\n").await;
    assert!(said.starts_with('%') && said.contains("+OK\r\n*2\r\n$4\r\na\r\nb\r\n_\r\n"), "{said}");
    assert_eq!(answers.times(), 4);
}
