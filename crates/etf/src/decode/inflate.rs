//! Compressed terms: a zlib stream of a size that is known.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::Reason;

/// Inflates exactly `size` bytes; gives them with the length of the zlib stream.
pub(super) fn inflate(stream: &[u8], size: usize) -> Result<(Vec<u8>, usize), Reason> {
    // Deflate makes no more than 1032 bytes of one: what claims more is refused before memory is taken for it.
    if size / 1032 > stream.len() {
        return Err(Reason::Compressed);
    }
    let mut zlib = Decompress::new(true);
    let mut inflated = Vec::new();
    loop {
        if inflated.len() == inflated.capacity() {
            if inflated.len() > size {
                return Err(Reason::Compressed);
            }
            // One byte more than said, by which a stream shows that is too long.
            inflated.reserve_exact(inflated.len().max(4096).min(size + 1 - inflated.len()));
        }
        let before = (zlib.total_in(), zlib.total_out());
        let rest = &stream[zlib.total_in() as usize..];
        let status = zlib.decompress_vec(rest, &mut inflated, FlushDecompress::None);
        if status.map_err(|_| Reason::Compressed)? == Status::StreamEnd {
            break;
        }
        if before == (zlib.total_in(), zlib.total_out()) {
            return Err(Reason::Truncated);
        }
    }
    if inflated.len() != size { Err(Reason::Compressed) } else { Ok((inflated, zlib.total_in() as usize)) }
}
