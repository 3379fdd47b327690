//! Reads what a target needs from the bytes that a fuzzer gives; where they end, zeros follow.

/// The bytes that are left.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let high = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % end
    }

    pub fn number(&mut self) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The next bytes, fewer where there are not so many.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(count.min(self.0.len()));
        self.0 = left;
        taken
    }

    /// Some bytes, at most 255.
    pub fn some(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte());
        self.take(count)
    }

    /// Some text, at most 255 bytes of the input.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.some()).into_owned()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    /// Cuts bytes into pieces at places that the input says.
    pub fn cut(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        // Each piece costs a turn of what reads them.
        while !bytes.is_empty() && pieces.len() < 4096 {
            let size = match self.byte() {
                0 => bytes.len(),
                size @ 1..=127 => usize::from(size),
                size => usize::from(size - 127) * 97,
            };
            let (piece, left) = bytes.split_at(size.min(bytes.len()));
            pieces.push(piece.to_vec());
            bytes = left;
        }
        if !bytes.is_empty() {
            pieces.push(bytes.to_vec());
        }
        pieces
    }
}
