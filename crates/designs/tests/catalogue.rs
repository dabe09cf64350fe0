//! Every design of the table that the catalogue was made from, written down a second time in another form.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney_designs::{Catalogue, Design, DmaIp, Interface, Kind};
use std::fmt::Write;

/// Subsystem, name; then DMA IP and BAR, channels and interface, bits; memory; peripherals as kind@BAR:offset with
/// ports, slaves and the revision from which on they are there; link.
const TABLE: &str = "
0002:0001 memmapped_blkram | - | - | ram@0:0 ram@2:0 ram@4:0 | 5x4
0002:0002 i2c_probe | - | - | iic@0:0 axi-gpio@0:1000 quad-spi@0:2000 xadc@0:3000 | 5x4
0002:0003 dma_blkram | xdma@0 2+2 mm 128 | 0+120000 1+1=0+128000 | - | 5x4
0002:0004 TOSING_160T_dma_ddr3 | xdma@2 2+2 mm 128 | 0+40000000 | quad-spi@0:0 xadc@0:1000 user-access@0:2000 ddr-status@0:3000 | 5x4
0000:0000 Project-0 | xdma@2 1+1 mm | NITE=0+40000000 LITE=0+20000000 | axi-gpio@0:0 axi-gpio@0:1000 axi-gpio@0:2000 xadc@0:3000 quad-spi@0:10000 | 5x4
0002:0005 TEF1001_dma_ddr3 | xdma@2 2+2 mm 128 | 0+200000000 | iic@0:0 axi-gpio@0:1000 quad-spi@0:2000 xadc@0:3000 user-access@0:4000 ddr-status@0:6000 | 5x4
0002:0006 NiteFury_dma_ddr3 | xdma@2 2+2 mm 128 | 0+40000000 | quad-spi@0:0 xadc@0:1000 user-access@0:2000 ddr-status@0:3000 | 5x4
0002:0007 TEF1001_dma_stream_loopback | xdma@2 2+2 stream 128 | - | iic@0:0 axi-gpio@0:1000 quad-spi@0:2000 xadc@0:3000 user-access@0:4000 stream-switch@0:6000/2p/r1 | 5x4
0002:0008 NiteFury_dma_stream_loopback | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 stream-switch@0:3000/2p/r1 | 5x4
0002:0009 TOSING_160T_dma_stream_loopback | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 stream-switch@0:3000/2p/r1 | 5x4
0002:000a XCKU5P_DUAL_QSFP_dma_stream_loopback | xdma@2 4+4 stream 256 | - | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 stream-switch@0:3000/4p/r1 | 8x8
0002:000b XCKU5P_DUAL_QSFP_dma_ram | xdma@2 4+4 mm | 0+200000 | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 | 8x8
0002:000c XCKU5P_DUAL_QSFP_qdma_ram_PF0 | qdma@0 | 0+200000 | quad-spi@2:0 | ?x8
0002:000d XCKU5P_DUAL_QSFP_qdma_ram_PF1 | qdma@0 | 0+200000 | sysmon@2:0 | ?x8
0002:000e XCKU5P_DUAL_QSFP_qdma_ram_PF2 | qdma@0 | 0+200000 | user-access@2:0 | ?x8
0002:000f XCKU5P_DUAL_QSFP_qdma_ram_PF3 | qdma@0 | 0+200000 | uart@2:0 | ?x8
0002:0010 XCKU5P_DUAL_QSFP_dma_stream_fixed_data | xdma@2 4+4 stream 256 | - | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 | 8x8
0002:0011 TEF1001_dma_stream_fixed_data | xdma@2 2+2 stream 128 | - | iic@0:0 axi-gpio@0:1000 quad-spi@0:2000 xadc@0:3000 user-access@0:4000 | 5x4
0002:0012 NiteFury_dma_stream_fixed_data | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 | 5x4
0002:0013 TOSING_160T_dma_stream_fixed_data | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 | 5x4
0002:0014 XCKU5P_DUAL_QSFP_ibert | - | - | quad-spi@0:4000 sysmon@0:5000 user-access@0:6000 | 8x8
0002:0015 TEF1001_ddr3_throughput | - | - | xadc@0:0 user-access@0:1000 | 5x4
0002:0016 XCKU5P_DUAL_QSFP_dma_stream_crc64 | xdma@2 4+4 stream 256 | - | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 | 8x8
0002:0017 TEF1001_dma_stream_crc64 | xdma@2 2+2 stream 128 | - | iic@0:0 axi-gpio@0:1000 quad-spi@0:2000 xadc@0:3000 user-access@0:4000 | 5x4
0002:0018 TOSING_160T_dma_stream_crc64 | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 | 5x4
0002:0019 NiteFury_dma_stream_crc64 | xdma@2 2+2 stream 128 | - | quad-spi@0:0 xadc@0:1000 user-access@0:2000 | 5x4
0002:001a AS02MC04_dma_stream_crc64 | xdma@2 4+4 stream 256 | - | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 dna@0:3000/r1 | 8x8
0002:001b AS02MC04_enum | xdma@1 mm | - | user-access@0:0 | 8x?
0002:001c U200_enum | xdma@1 mm | - | user-access@0:0 | 8x16
0002:001d U200_100G_ether_simplex_tx | xdma@2 2+1 stream | - | cmac@0:0 user-access@0:2000 sysmon@0:4000/2s/r1 quad-spi@0:6000/r1 dna@0:8000/r3 cmac@0:10000/r2 cms@0:40000/r1 | 8x16
0002:001e U200_dma_stream_crc64 | xdma@2 4+4 stream 512 | - | quad-spi@0:0 user-access@0:1000 sysmon@0:2000/2s | 8x16
0002:001f U200_ibert_100G_ether | - | - | cms@0:0 sysmon@0:40000/2s user-access@0:42000 quad-spi@0:44000 | 8x16
10ee:0007 open-nic | qdma@0 | - | cmac@2:8000 cmac@2:c000 sysmon@2:10000 cms@2:300000 quad-spi@2:340000 | -
10ee:0007 XCKU5P_PCIe_DDR4_ETH | xdma@0 mm | 0+80000000 | - | -
0002:0020 VD100_enum | xdma@1 mm | - | - | 16x4
0002:0021 VD100_dma_stream_crc64 | xdma@0 4+4 stream 256 | - | - | 16x4
0002:0022 VD100_dma_stream_loopback | xdma@2 4+4 stream 256 | - | stream-switch@0:0/4p | 16x4
0002:0023 VD100_dma_ddr4 | xdma@0 4+4 mm | 800000000+100000000 | - | 16x4
0002:0024 VD100_qdma_ddr4 | qdma@0 | 800000000+100000000 | - | 16x4
0002:0025 U200_qdma_ram | qdma@0 | 0+800000 | user-access@2:0 | 8x16
0002:0026 VD100_10G_ether_dual | xdma@2 2+2 stream | - | mrmac@0:0 iic@0:11000 | 16x4
0002:0027 VMK180_100G_ether | xdma@2 stream | - | mrmac@0:0 | -
0002:0028 VD100_25G_ether_dual | xdma@2 2+2 stream | - | mrmac@0:0 iic@0:11000 | 16x4
0002:0029 U200_100G_ether_duplex | xdma@2 2+2 stream | - | cmac@0:0 user-access@0:2000 sysmon@0:4000/2s quad-spi@0:6000 dna@0:8000 stream-switch@0:9000/4p/r1 drp@0:a000/r2 drp@0:b000/r2 cmac@0:10000 cms@0:40000 | 8x16
0002:002a AS02MC04_qdma_enum | qdma@0 | - | user-access@2:0 | 8x8
0002:002b VD100_40G_ether | xdma@2 1+1 stream | - | mrmac@0:0 iic@0:11000 | 16x4
0002:002c XCKU5P_SINGLE_QSFP_dma_stream_loopback | xdma@2 4+4 stream 256 | - | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 stream-switch@0:3000/4p dna@0:4000 | 8x8
0002:002d XCKU5P_SINGLE_QSFP_dma_ddr4 | xdma@2 mm | 0+80000000 | quad-spi@0:0 sysmon@0:1000 user-access@0:2000 dna@0:3000 ddr-status@0:4000 | 8x8
0002:002e U200_dma_ddr4 | xdma@2 mm | r0=0+1000000000 r1=0+800000000 r2=800000000+800000000 r3=0+400000000 r4=0+800000000 | sysmon@0:4000/2s quad-spi@0:6000 user-access@0:7000 dna@0:8000 ddr-status@0:9000 cms@0:40000 | 8x16
0002:002f LOGSYS_70T_enum | - | - | - | 5x?
0002:0030 U200_slr_ids | xdma@1 mm | - | dna@0:0 dna@0:1000 dna@0:2000 user-access@0:3000 | 8x16
";

/// A design as a line of the table.
fn line(design: &Design) -> String {
    let dma = design.dma.map(|dma| {
        let mut words = format!("{}@{}", if dma.ip == DmaIp::Xdma { "xdma" } else { "qdma" }, dma.bar);
        if let (Some(h2c), Some(c2h)) = (dma.h2c, dma.c2h) {
            write!(words, " {h2c}+{c2h}").unwrap();
        }
        match dma.interface {
            Some(Interface::MemoryMapped) => words += " mm",
            Some(Interface::Stream) => words += " stream",
            None => {}
        }
        if let Some(width) = dma.width {
            write!(words, " {width}").unwrap();
        }
        words
    });
    let mut memories: Vec<String> =
        design.memory.iter().map(|memory| format!("{:x}+{:x}", memory.base, memory.size)).collect();
    for variant in &design.variants {
        let [memory] = variant.memory[..] else { panic!("{variant:?}") };
        let condition = match (&variant.word, &variant.revisions[..], variant.h2c, variant.c2h) {
            (Some(word), [], None, None) => word.clone(),
            (None, [revision], None, None) => format!("r{revision}"),
            (None, [], Some(h2c), Some(c2h)) => format!("{h2c}+{c2h}"),
            other => panic!("{other:?}"),
        };
        memories.push(format!("{condition}={:x}+{:x}", memory.base, memory.size));
    }
    let peripherals: Vec<String> = design
        .peripherals
        .iter()
        .map(|peripheral| {
            let mut words = format!("{}@{}:{:x}", peripheral.kind, peripheral.bar, peripheral.offset);
            for (number, mark) in [(peripheral.ports, "p"), (peripheral.slaves, "s")] {
                if number > 0 {
                    write!(words, "/{number}{mark}").unwrap();
                }
            }
            if peripheral.from_revision > 0 {
                write!(words, "/r{}", peripheral.from_revision).unwrap();
            }
            words
        })
        .collect();
    let link = design.link.map(|link| {
        let speed = link.gt_per_s.map_or("?".into(), |speed| speed.to_string());
        format!("{speed}x{}", link.lanes.map_or("?".into(), |lanes| lanes.to_string()))
    });
    let some = |words: String| if words.is_empty() { "-".to_owned() } else { words };
    [
        format!("{} {}", design.subsystem.unwrap(), design.name),
        some(dma.unwrap_or_default()),
        some(memories.join(" ")),
        some(peripherals.join(" ")),
        some(link.unwrap_or_default()),
    ]
    .join(" | ")
}

#[test]
fn every_design_is_there() {
    let catalogue = Catalogue::built_in();
    let rows: Vec<&str> = TABLE.trim().lines().collect();
    for row in &rows {
        let name = row.split_whitespace().nth(1).unwrap();
        let design = catalogue.design(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(line(design), *row);
    }
    assert_eq!(catalogue.designs().count(), rows.len());
    assert!(catalogue.design("TOSING_160T_quad_spi").is_some_and(|design| design.name == "i2c_probe"));
}

#[test]
fn device_ids_are_exact_only_where_subsystems_are_shared() {
    for design in Catalogue::built_in().designs() {
        let pci: Vec<String> = design.pci.iter().map(ToString::to_string).collect();
        let expected = match design.name.as_str() {
            "Project-0" => vec!["10ee:7011"],
            "open-nic" => vec!["10ee:903f", "10ee:913f"],
            "XCKU5P_PCIe_DDR4_ETH" => vec!["10ee:9038"],
            _ => vec!["10ee:*"],
        };
        assert_eq!(pci, expected, "{}", design.name);
    }
}

#[test]
fn kinds_are_displayed_as_they_are_written() {
    for design in Catalogue::built_in().designs() {
        for kind in design.peripherals.iter().map(|peripheral| peripheral.kind).chain([Kind::Other]) {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}

#[test]
fn the_example_of_the_manual_is_right() {
    let manual = include_str!("../../../docs/boards.md");
    let example = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let catalogue = Catalogue::of_text("boards.md", example).unwrap();
    assert_eq!(catalogue.design("my_filter").unwrap().peripherals.len(), 2);
}
