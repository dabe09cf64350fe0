//! Allocates IOVA ranges: valid ranges in, aligned and non-overlapping ranges out.
