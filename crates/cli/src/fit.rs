//! Tables that fit the terminal.

use comfy_table::{ContentArrangement, Table};

/// Has `table` fit the terminal, if that says how wide it is: a serial line says that it has no columns at all.
pub(crate) fn fit(table: &mut Table) -> &mut Table {
    let arrangement = match table.width() {
        Some(0) => ContentArrangement::Disabled,
        _ => ContentArrangement::Dynamic,
    };
    table.set_content_arrangement(arrangement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_columns_is_taken_for_a_wide_one() {
        for (width, lines) in [(0, 1), (12, 3)] {
            let mut table = Table::new();
            table
                .load_style(comfy_table::presets::NOTHING)
                .set_width(width)
                .add_row(["jitney test ddr of a card"]);
            assert_eq!(fit(&mut table).to_string().lines().count(), lines, "{width}");
        }
    }
}
