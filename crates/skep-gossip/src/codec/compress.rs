use super::msgpack::{Reader, Writer};
use crate::counters::DropCause;
use weezl::{BitOrder, LzwStatus, decode, encode};

/// Bits of a literal, as in GIF and in Go's `compress/lzw` with width 8.
const WIDTH: u8 = 8;
const LZW: u8 = 0;

/// The compressed form of `plain`, type byte first.
pub fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(plain.len() / 2 + 16);
    // Writing into a vector cannot fail, and every byte is a valid literal at width 8.
    let _ = encode::Encoder::new(BitOrder::Lsb, WIDTH).into_vec(&mut packed).encode_all(plain);
    let mut writer = Writer::after(vec![super::message::COMPRESS]);
    writer.map(2);
    writer.raw(b"Algo");
    writer.unsigned(u32::from(LZW));
    writer.raw(b"Buf");
    writer.raw(&packed);
    writer.finish()
}

/// What `body` (without the type byte) holds, at most `limit` bytes.
pub fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, DropCause> {
    let mut algorithm = LZW;
    let mut packed: &[u8] = &[];
    let mut reader = Reader::new(body);
    reader.map(|key, value| {
        match key {
            b"Algo" => algorithm = value.unsigned()?,
            b"Buf" => packed = value.raw()?,
            _ => value.skip()?,
        }
        Ok(())
    })?;
    if algorithm != LZW {
        return Err(DropCause::Inflate);
    }
    let mut decoder = decode::Decoder::new(BitOrder::Lsb, WIDTH);
    let mut plain = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let step = decoder.decode_bytes(packed, &mut chunk);
        packed = &packed[step.consumed_in..];
        plain.extend_from_slice(&chunk[..step.consumed_out]);
        if plain.len() > limit {
            return Err(DropCause::TooLarge);
        }
        match step.status {
            Ok(LzwStatus::Done) => return Ok(plain),
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            _ => return Err(DropCause::Inflate),
        }
    }
}
