//! Inputs that arrive in pieces: a byte of choices, three lengths that are used by turns (0: all that is left), the bytes.

/// One input.
pub struct Pieces<'a> {
    pub choices: u8,
    lengths: [u8; 3],
    pub bytes: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// `None` for an input that is too short to be one.
    pub fn of(input: &'a [u8]) -> Option<Self> {
        let [choices, a, b, c, bytes @ ..] = input else { return None };
        Some(Self { choices: *choices, lengths: [*a, *b, *c], bytes })
    }

    /// Everything at once.
    pub fn whole(&self) -> Vec<&'a [u8]> {
        vec![self.bytes]
    }

    /// As the lengths say.
    pub fn cut(&self) -> Vec<&'a [u8]> {
        let (mut rest, mut pieces) = (self.bytes, Vec::new());
        for length in self.lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let length = if *length == 0 { rest.len() } else { usize::from(*length).min(rest.len()) };
            let (piece, after) = rest.split_at(length);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    /// An input that means this.
    pub fn seed(choices: u8, lengths: [u8; 3], bytes: &[u8]) -> Vec<u8> {
        [&[choices], &lengths[..], bytes].concat()
    }
}
