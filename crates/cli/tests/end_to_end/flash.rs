//! `jitney flash` and `jitney bitstream`: files, flashes that outlive their board, and writes that are stopped.

use crate::support::{Board, Ground, LIMIT, Outcome, Process};
use jitney::vfio::LeaseRequest;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const SECTOR: usize = 64 << 10;
pub(crate) const A200T: u32 = 0x1363_6093;
pub(crate) const K160T: u32 = 0x0364_c093;

/// A bitstream with so many words of frames, no two of which are alike.
pub(crate) fn bitstream(idcode: u32, words: u32, seed: u32) -> Vec<u8> {
    let write = |register: u32, word: u32| [0x3000_0001 | register << 13, word];
    let mut all = vec![u32::MAX; 8];
    all.extend([0x0000_00bb, 0x1122_0044, u32::MAX, u32::MAX, 0xaa99_5566, 0x2000_0000]);
    all.extend(write(12, idcode));
    all.extend(write(13, 0x8c34_d30f));
    all.extend([0x3000_4000, 0x5000_0000 | words]);
    all.extend((0..words).map(|word| (word + seed).wrapping_mul(0x9e37_79b9)));
    all.extend(write(4, 13));
    all.extend([0x2000_0000; 4]);
    all.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The same with the header of a .bit file.
pub(crate) fn bit(part: &str, data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01];
    for (letter, text) in
        [(b'a', "top;Version=2023.1\0"), (b'b', part), (b'c', "2023/07/08\0"), (b'd', "12:34:56\0")]
    {
        file.push(letter);
        file.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        file.extend(text.bytes());
    }
    file.push(b'e');
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    file.extend(data);
    file
}

/// `jitney COMMAND CARD REST` of a board that this owns alone for as long as it lasts.
fn alone(ground: &Ground, board: &Board, line: &str) -> Process {
    ground.start(&format!("{line} --card {}", board.address()))
}

fn run(ground: &Ground, board: &Board, line: &str) -> Outcome {
    alone(ground, board, line).wait()
}

#[test]
fn a_file_says_what_it_is_and_a_bit_becomes_a_bin() {
    let ground = Ground::new();
    let data = bitstream(A200T, 500, 1);
    fs::write(ground.path("top.bit"), bit("7a200tfbg484\0", &data)).unwrap();
    fs::write(ground.path("top.bin"), &data).unwrap();
    ground
        .run("bitstream top.bit")
        .exits(0)
        .says("for 7a200tfbg484, built 2023/07/08 12:34:56")
        .says("IDCODE 13636093: XC7A200T")
        .says("user access 8c34d30f, as a time 2026-08-17 13:12:15")
        .says("500 words of frames");
    ground.run("bitstream top.bin").exits(0).says("XC7A200T");
    ground.run("bitstream top.bit --bin out.bin").exits(0).says("wrote 2104 bytes to out.bin");
    assert_eq!(fs::read(ground.path("out.bin")).unwrap(), data);
    ground.run("bitstream top.bit --bin out.bin").exits(1).complains("EEXIST").complains("--force");
    ground.run("bitstream top.bit --bin out.bin --force").exits(0);
    let json = ground.run("bitstream top.bit --json").exits(0).json();
    let found = &json["bitstream"];
    assert_eq!(
        (&found["part"], &found["frame_words"], &found["whole"]),
        (&json!("XC7A200T"), &json!(500), &json!(true))
    );
    assert_eq!((&found["design"], &json["data_bytes"]), (&json!("top;Version=2023.1"), &json!(data.len())));

    for (name, bytes, said) in [
        ("cut.bin", &data[..1000], "it has no end"),
        ("text.bin", &b"hello, world"[..], "no sync word"),
        ("erased.bin", &[0xff; 3000], "no sync word"),
    ] {
        fs::write(ground.path(name), bytes).unwrap();
        ground.run(&format!("bitstream {name}")).exits(1).says(said);
    }
    fs::write(ground.path("half.bit"), &bit("7a200t\0", &data)[..40]).unwrap();
    ground.run("bitstream half.bit").exits(1).complains("half.bit").complains("ends in its header");
    let swapped: Vec<u8> = data.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    fs::write(ground.path("swapped.bin"), swapped).unwrap();
    ground.run("bitstream swapped.bin").exits(0).says("bytes of each 32 bits swapped: no FPGA takes it so");
    ground.run("bitstream nowhere.bit").exits(1).complains("nowhere.bit: ENOENT");
    fs::write(ground.path("empty.bit"), b"").unwrap();
    ground.run("bitstream empty.bit").exits(1).complains("empty.bit is empty");
}

#[test]
fn a_bitstream_is_written_and_the_flash_outlives_its_board() {
    let ground = Ground::new();
    let data = bitstream(A200T, 300, 1);
    fs::write(ground.path("top.bit"), bit("7a200tfbg484\0", &data)).unwrap();
    let flash = ground.path("flash");
    let board = ground.board(&format!("nitefury --flash {}", flash.display()));
    let broker = ground.broker(&[&board]);
    let through = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    through("flash info 10ee:7011")
        .exits(0)
        .says("S25FL256S of Spansion, 32 MiB")
        .says("sectors of 64 KiB")
        .says("no block is protected")
        .says("at 0x0 it is erased");
    through("flash verify 10ee:7011 top.bit").exits(1).says("the first at 0x20");
    through("flash write 10ee:7011 top.bit").exits(0).says("1 written and read back");
    through("flash write 10ee:7011 top.bit")
        .exits(0)
        .says("of 1 sectors 1 were right already, 0 were erased, 0 written");
    let json = through("flash verify 10ee:7011 top.bit --json").exits(0).json();
    assert_eq!((&json["bytes"], json["difference"].is_null()), (&json!(data.len()), true));
    let json = through("flash info 10ee:7011 --json").exits(0).json();
    assert_eq!((&json["flash"]["part"], &json["flash"]["id"][2]), (&json!("S25FL256S"), &json!(0x19)));
    assert_eq!(
        (&json["bitstream"]["part"], &json["bitstream"]["bytes"]),
        (&json!("XC7A200T"), &json!(data.len()))
    );
    // A second image, from where a sector begins.
    through("flash write 10ee:7011 top.bit --offset 16M --json").exits(0);
    through("flash info 10ee:7011 --offset 16M").exits(0).says("IDCODE 13636093");
    drop(broker);

    // As the power of a card fails.
    let address = board.address();
    drop(board);
    assert_eq!(fs::metadata(&flash).unwrap().len(), 32 << 20);
    let board = ground.board(&format!("nitefury --flash {}", flash.display()));
    assert!(!address.is_empty());
    run(&ground, &board, "flash verify 10ee:7011 top.bit --offset 16M").exits(0);
    run(&ground, &board, "flash read 10ee:7011 back.bin --length 2K").exits(0).says("kB/s");
    let back = fs::read(ground.path("back.bin")).unwrap();
    assert!(back[..data.len()] == data && back[data.len()..].iter().all(|byte| *byte == 0xff));
    run(&ground, &board, "flash read 10ee:7011 back.bin --length 16").exits(1).complains("EEXIST");
    let piped = run(&ground, &board, "flash read 10ee:7011 - --offset 0x2c --length 8");
    assert_eq!(piped.exits(0).out.len(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}Uf".len());
}

#[test]
fn what_is_not_for_the_board_is_refused_before_anything_is_written() {
    let ground = Ground::new();
    let flash = ground.path("flash");
    let board = ground.board(&format!("nitefury --flash {}", flash.display()));
    let good = bitstream(A200T, 20, 1);
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("idcode.bin", bitstream(K160T, 20, 1), "for XC7K160T by its IDCODE, but NiteFury has XC7A200T"),
        (
            "named.bit",
            bit("7k160tffg676\0", &good),
            "for 7k160tffg676 by its header, but NiteFury has XC7A200T",
        ),
        ("text.bin", b"hello, world".to_vec(), "no sync word"),
        ("cut.bin", good[..100].to_vec(), "no whole bitstream: it has no end"),
        ("erased.bin", [&good[..80], &[0xff; 100]].concat(), "which is in no bitstream"),
        ("swapped.bin", good.iter().map(|byte| byte.reverse_bits()).collect(), "bits of each byte swapped"),
    ];
    for (name, bytes, said) in &files {
        fs::write(ground.path(name), bytes).unwrap();
        let outcome = run(&ground, &board, &format!("flash write 10ee:7011 {name}")).exits(2);
        outcome.complains(said).complains("nothing was written (--force");
    }
    fs::write(ground.path("good.bin"), &good).unwrap();
    for (rest, said) in [
        ("good.bin --offset 0x100", "0x100 is no multiple of 0x10000"),
        ("good.bin --offset 32M", "not all in the flash of NiteFury"),
        ("good.bin --offset 0xffffffffffffffff", "not all in the flash"),
    ] {
        run(&ground, &board, &format!("flash write 10ee:7011 {rest}")).exits(2).complains(said);
    }
    run(&ground, &board, "flash read 10ee:7011 x.bin --offset 31M --length 2M")
        .exits(2)
        .complains("not all in");
    run(&ground, &board, "flash info 10ee:7011 --offset 32M").exits(2);
    assert!(!ground.path("x.bin").exists());
    assert!(fs::read(&flash).unwrap().iter().all(|byte| *byte == 0xff), "nothing was written");
    run(&ground, &board, "flash write 10ee:7011 text.bin --force").exits(0);
    assert_eq!(&fs::read(&flash).unwrap()[..12], b"hello, world");

    // Boards without a flash, and files that are none for one.
    ground.run("flash info 10ee:7024 --emulate tef1001-dma-blkram").exits(1).complains("no quad-spi");
    ground
        .run("flash info 10ee:7024 --emulate i2c_probe")
        .exits(1)
        .complains("does not answer: its ID reads as 00h");
    let wrong = ground.run("emulate TOSING_160T_dma_ddr3 --socket x.sock --flash good.bin").exits(2);
    wrong.complains("good.bin has 184 bytes").complains("mx25l12835f, has 16777216");
    let busy = ground.run(&format!("emulate nitefury --socket x.sock --flash {}", flash.display()));
    busy.exits(1).complains("another board's, which runs");
}

#[test]
fn the_bus_is_one_programs_at_a_time() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7011").unwrap();
    let lease = card.lease(LeaseRequest::exclusive("quad-spi".parse().unwrap())).unwrap();
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    let own = format!("is held by pid {}", std::process::id());
    run("flash info 10ee:7011").exits(1).complains("quad-spi").complains(&own).complains("EBUSY");
    let json = run("flash read 10ee:7011 x.bin --json").exits(1);
    assert!(json.out.contains("\"kind\":\"held\""), "{json}");
    drop(lease);
    run("flash info 10ee:7011").exits(0);
}

#[test]
fn a_protected_flash_is_written_only_when_that_is_taken_off() {
    let ground = Ground::new();
    let board = ground.board("XCKU5P_DUAL_QSFP_dma_ram");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    {
        let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
        let board = jitney::boards::identify(&bus.card("10ee:9038").unwrap()).unwrap();
        let spi = board.quad_spi().unwrap().lease().unwrap();
        for command in [&[0x9f, 0, 0][..], &[0x06], &[0x01, 0x5c]] {
            spi.transaction(command, &mut []).unwrap();
        }
    }
    fs::write(ground.path("top.bin"), bitstream(0x04a6_2093, 20, 1)).unwrap();
    run("flash info 10ee:9038").exits(0).says("MT25QU256 of Micron").says("SFDP 1.6").says("protected: 0x5c");
    run("flash write 10ee:9038 top.bin").exits(1).complains("block protection 0x5c").complains("--unprotect");
    run("flash info 10ee:9038").exits(0).says("at 0x0 it is erased");
    run("flash write 10ee:9038 top.bin --unprotect").exits(0).says("1 written and read back");
    run("flash info 10ee:9038").exits(0).says("no block is protected").says("XCKU5P");
}

/// A flash of `size` bytes that begins with `image`.
fn prepare(path: &Path, size: usize, image: &[u8]) {
    let mut bytes = vec![0xff; size];
    bytes[..image.len()].copy_from_slice(image);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_write_that_is_stopped_leaves_nothing_that_starts_and_goes_on_when_it_is_run_again() {
    for (name, size, signal) in
        [("TOSING_160T_dma_ddr3", 16 << 20, Signal::INT), ("TEF1001_dma_ddr3", 32 << 20, Signal::KILL)]
    {
        let ground = Ground::new();
        let words = u32::try_from(SECTOR / 4 + 300).unwrap();
        // Two builds of one design, which begin alike.
        let (old, new) = (bitstream(K160T, words, 1), bitstream(K160T, words, 2));
        fs::write(ground.path("new.bin"), &new).unwrap();
        let flash = ground.path("flash");
        prepare(&flash, size, &old);
        let board = ground.board(&format!("{name} --flash {}", flash.display()));
        let broker = ground.broker(&[&board]);
        let line = format!("flash write 10ee:7024 new.bin {}", broker.option());
        let process = ground.start(&line);
        let file = fs::File::open(&flash).unwrap();
        // What is in the flash is read before, and other tests take the processors meanwhile: no time is too long but the usual limit.
        let since = Instant::now();
        let mut start = [0; 64];
        while start != [0xff; 64] {
            assert!(since.elapsed() < LIMIT, "the first sector is not erased");
            std::thread::sleep(Duration::from_millis(1));
            file.read_exact_at(&mut start, 0).unwrap();
        }
        process.signal(signal);
        let outcome = process.wait();
        let now = fs::read(&flash).unwrap();
        assert_eq!(now[..64], [0xff; 64], "nothing starts from it");
        if signal == Signal::KILL {
            outcome.dies_of(Signal::KILL);
        } else {
            outcome
                .exits(1)
                .complains("writing new.bin to the flash of TOSING 160T")
                .complains("it was told to stop")
                .complains("0x0 to 0x10000 is erased")
                .complains("write it again, which goes on from there");
        }
        ground.run(&line).exits(0).says("new.bin at 0x0");
        let now = fs::read(&flash).unwrap();
        assert!(now[..new.len()] == new && now[new.len()..].iter().all(|byte| *byte == 0xff), "{name}");
    }
}
