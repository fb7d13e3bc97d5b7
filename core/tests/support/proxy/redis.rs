//! Redis's messages, RESP 2 and 3: a type byte, a line, and for some types what the line counts.

use super::message::{Kind, Message};

/// A command: an array of bulk strings. Its text is its words with a space between them.
pub fn take_from_client(buffer: &mut Vec<u8>) -> Option<Message> {
    let length = end(buffer, 0)?;
    let bytes = cut(buffer, length);
    let text = words(&bytes).join(" ");
    Some(Message { kind: Kind::Command, text, bytes })
}

/// A reply, or what a server says unasked. Its text is its bytes.
pub fn take_from_server(buffer: &mut Vec<u8>) -> Option<Message> {
    let length = end(buffer, 0)?;
    let bytes = cut(buffer, length);
    let kind = if bytes[0] == b'>' { Kind::Push } else { Kind::Reply };
    Some(Message { kind, text: String::from_utf8_lossy(&bytes).into_owned(), bytes })
}

fn cut(buffer: &mut Vec<u8>, length: usize) -> Vec<u8> {
    let rest = buffer.split_off(length);
    std::mem::replace(buffer, rest)
}

/// Where the value that begins at `start` ends, if all of it is there.
fn end(buffer: &[u8], start: usize) -> Option<usize> {
    let line = line_end(buffer, start)?;
    let count = || std::str::from_utf8(&buffer[start + 1..line - 2]).ok()?.parse::<i64>().ok();
    match buffer[start] {
        b'$' | b'!' | b'=' => match count()? {
            length @ 0.. => {
                let whole = line + length as usize + 2;
                (buffer.len() >= whole).then_some(whole)
            }
            _ => Some(line),
        },
        b'*' | b'~' | b'>' => values(buffer, line, count()?),
        b'%' => values(buffer, line, 2 * count()?),
        // Attributes stand before the value that they belong to.
        b'|' => values(buffer, line, 2 * count()? + 1),
        _ => Some(line),
    }
}

fn values(buffer: &[u8], start: usize, count: i64) -> Option<usize> {
    (0..count).try_fold(start, |at, _| if at < buffer.len() { end(buffer, at) } else { None })
}

/// The first byte behind the line that begins at `start`.
fn line_end(buffer: &[u8], start: usize) -> Option<usize> {
    let line = buffer.get(start..)?;
    line.windows(2).position(|pair| pair == b"\r\n").map(|at| start + at + 2)
}

fn words(command: &[u8]) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), line_end(command, 0).expect("a whole command"));
    while at < command.len() {
        let (word, next) = (line_end(command, at), end(command, at));
        let (Some(word), Some(next)) = (word, next) else { break };
        found.push(String::from_utf8_lossy(&command[word..(next - 2).max(word)]).into_owned());
        at = next;
    }
    found
}
