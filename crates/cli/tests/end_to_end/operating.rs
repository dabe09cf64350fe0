//! docs/operating.md: its commands are followed word by word under systemd itself, by `cargo xtask dist --check`.

const TEXT: &str = include_str!("../../../../docs/operating.md");

#[test]
fn every_setting_is_described() {
    for key in ["cards", "isolate", "on-demand", "iommu", "group", "policy", "exit-when-idle"] {
        assert!(TEXT.contains(&format!("| `{key}` | ")), "{key}");
    }
}
