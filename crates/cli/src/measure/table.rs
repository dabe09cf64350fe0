//! Tables of figures.

use crate::fit::fit;
use comfy_table::{CellAlignment, Table, presets};

/// A table whose columns are figures, but for the first.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    fit(table.load_style(presets::NOTHING));
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}
