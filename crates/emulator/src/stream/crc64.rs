//! A CRC over each packet: what comes back for it is one packet of 8 bytes.

use super::{Fifo, Received, StreamSink, StreamSource};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// CRC-64/ECMA-182, reflected (that of XZ).
const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;
/// Results that wait to be fetched; then packets are not taken any more.
const RESULTS: usize = 64;

/// What a byte makes of the register, when `n` more bytes of zero follow it: for eight bytes in one step.
const TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[behind - 1][byte];
            tables[behind][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// Goes on with a CRC over `words` of 8 bytes each, little endian. It begins with all ones and is not inverted at the end.
#[must_use]
pub fn crc64(crc: u64, words: &[[u8; 8]]) -> u64 {
    words.iter().fold(crc, |crc, word| {
        let bytes = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        bytes.iter().enumerate().fold(0, |sum, (at, byte)| sum ^ TABLES[7 - at][usize::from(*byte)])
    })
}

/// Takes packets and gives the CRC of each, as the open designs "dma_stream_crc64" do.
///
/// The logic takes whole words of the data path and does not look at TKEEP, so what a packet lacks to whole words counts
/// as zeros.
#[derive(Debug)]
pub struct Crc64 {
    data_width: usize,
    packet: Mutex<Packet>,
    results: Fifo,
}

#[derive(Debug)]
struct Packet {
    crc: u64,
    length: usize,
    /// Bytes that do not make a word of 8 yet, `length % 8` of them.
    rest: [u8; 8],
}

impl Packet {
    const EMPTY: Self = Self { crc: u64::MAX, length: 0, rest: [0; 8] };

    fn take(&mut self, mut data: &[u8]) {
        let begun = self.length % 8;
        self.length = self.length.wrapping_add(data.len());
        if begun > 0 {
            let part = data.len().min(8 - begun);
            self.rest[begun..begun + part].copy_from_slice(&data[..part]);
            data = &data[part..];
            if begun + part < 8 {
                return;
            }
            self.crc = crc64(self.crc, &[self.rest]);
        }
        let (words, rest) = data.as_chunks::<8>();
        self.crc = crc64(self.crc, words);
        self.rest[..rest.len()].copy_from_slice(rest);
    }
}

impl Crc64 {
    /// For a data path of `data_width` bytes: 8, 16, 32 or 64.
    #[must_use]
    pub fn new(data_width: u32) -> Self {
        let data_width = usize::try_from(data_width).unwrap_or(8).max(8);
        Self { data_width, packet: Mutex::new(Packet::EMPTY), results: Fifo::new(8 * RESULTS) }
    }
}

impl StreamSink for Crc64 {
    fn poll_send(&self, context: &mut Context<'_>, data: &[u8], last: bool) -> Poll<usize> {
        let mut packet = self.packet.lock().unwrap_or_else(PoisonError::into_inner);
        if !last {
            packet.take(data);
            return Poll::Ready(data.len());
        }
        // The result first: without room for it, the end of the packet is not taken.
        let mut whole = Packet { ..*packet };
        whole.take(data);
        let lacking = whole.length.next_multiple_of(self.data_width) - whole.length;
        whole.take(&[0; 64][..lacking.min(64)]);
        self.results.poll_send_whole(context, &whole.crc.to_le_bytes()).map(|()| {
            *packet = Packet::EMPTY;
            data.len()
        })
    }

    fn reset(&self) {
        *self.packet.lock().unwrap_or_else(PoisonError::into_inner) = Packet::EMPTY;
        StreamSink::reset(&self.results);
    }
}

impl StreamSource for Crc64 {
    fn poll_receive(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<Received> {
        self.results.poll_receive(context, into)
    }

    fn reset(&self) {
        StreamSink::reset(self);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{receive, send};
    use super::*;
    use proptest::prelude::*;

    fn of(port: &Crc64, packet: &[u8]) -> u64 {
        assert_eq!(send(port, packet, true), Poll::Ready(packet.len()));
        let (bytes, last) = receive(port, 64).unwrap();
        assert!(last);
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// Zeros, and bytes that count up, of 8, 16, 32 and 64 bytes: figures that were checked with XZ's own.
    #[test]
    fn it_is_the_crc_of_the_designs() {
        let zeros =
            [0x4995_8c9a_bd7d_353f, 0x165e_c0e8_0495_dc9c, 0x36a5_079e_832a_ccf3, 0x21ab_855a_e9cf_dbfd];
        let counted =
            [0xac4f_fcee_5419_3a86, 0x859b_1bde_4967_aca9, 0x801a_8e5a_78f7_b2ef, 0x2f67_1964_f46c_0db4];
        let port = Crc64::new(8);
        for (length, (zeros, counted)) in [8u8, 16, 32, 64].into_iter().zip(zeros.into_iter().zip(counted)) {
            assert_eq!(of(&port, &vec![0; length.into()]), zeros, "{length}");
            assert_eq!(of(&port, &(0..length).collect::<Vec<_>>()), counted, "{length}");
        }
    }

    #[test]
    fn a_packet_is_filled_up_to_the_data_path() {
        let (wide, narrow) = (Crc64::new(64), Crc64::new(8));
        let mut filled = vec![5; 70];
        filled.resize(128, 0);
        assert_eq!(of(&wide, &[5; 70]), of(&narrow, &filled));
        assert_ne!(of(&wide, &[5; 70]), of(&narrow, &filled[..72]));
    }

    #[test]
    fn results_that_nobody_fetches_hold_packets_up() {
        let port = Crc64::new(16);
        for packet in 0..64 {
            assert_eq!(send(&port, &[packet; 16], true), Poll::Ready(16));
        }
        assert_eq!(send(&port, &[64; 16], false), Poll::Ready(16));
        assert_eq!(send(&port, &[64; 16], true), Poll::Pending);
        assert_eq!(receive(&port, 3).unwrap().0.len(), 3);
        assert_eq!(send(&port, &[64; 16], true), Poll::Pending, "a part of a result leaves no room for one");
        assert_eq!(receive(&port, 8).map(|(bytes, last)| (bytes.len(), last)), Some((5, true)));
        let mut results = Vec::new();
        while let Some((bytes, _)) = receive(&port, 8) {
            results.push(bytes);
        }
        assert_eq!(results.len(), 63);
        assert_eq!(of(&port, &[64; 16]), of(&Crc64::new(16), &[64; 32]), "nothing was taken twice");
        StreamSource::reset(&port);
    }

    proptest! {
        #[test]
        fn cutting_a_packet_changes_nothing(packet in proptest::collection::vec(any::<u8>(), 1..100), at in 0usize..100) {
            let port = Crc64::new(16);
            let whole = of(&port, &packet);
            let at = at.min(packet.len() - 1);
            if at > 0 {
                prop_assert_eq!(send(&port, &packet[..at], false), Poll::Ready(at));
            }
            prop_assert_eq!(of(&port, &packet[at..]), whole);
        }
    }
}
