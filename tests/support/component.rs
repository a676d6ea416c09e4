//! Components that no compiler made: small ones that are hard to compile, and builds of one that differ in their hash.

use super::guest;

/// The same filter under another hash: a custom section follows it.
pub(crate) fn build(of: &str, number: usize) -> Vec<u8> {
    let mut bytes = guest(of);
    bytes.extend(section(0, &[&[5][..], b"build", &leb(number)].concat()));
    bytes
}

/// 29 KB that take more than a minute to compile: two thousand loops in one another, and a way out of each.
pub(crate) fn slow_to_compile() -> Vec<u8> {
    const LOOPS: usize = 2000;
    const LOCALS: usize = 1000;
    let mut code = [0x03, 0x40].repeat(LOOPS);
    for depth in 0..LOOPS {
        code.extend([&[0x20][..], &leb(depth % LOCALS), &[0x41, 1, 0x6a, 0x22], &leb(depth * 7 % LOCALS)].concat());
        code.extend([&[0x0d][..], &leb(depth)].concat());
    }
    code.extend([0x0b].repeat(LOOPS));
    component(LOCALS, &code)
}

/// 3 MB that take more than 2 GiB to compile: two hundred thousand blocks over a thousand variables.
pub(crate) fn large_to_compile() -> Vec<u8> {
    const BLOCKS: usize = 200_000;
    const LOCALS: usize = 1000;
    let mut code = Vec::new();
    for block in 0..BLOCKS {
        code.extend([0x02, 0x40, 0x20, 0x00, 0x0d, 0x00]);
        code.extend([&[0x20][..], &leb(block % LOCALS), &[0x41, 1, 0x6a, 0x21], &leb(block * 7 % LOCALS)].concat());
        code.push(0x0b);
    }
    component(LOCALS, &code)
}

/// A component with one core module with one function over so many integers.
fn component(locals: usize, code: &[u8]) -> Vec<u8> {
    let body = [&[1][..], &leb(locals), &[0x7f], code, &[0x0b]].concat();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(section(1, &[1, 0x60, 0, 0]));
    module.extend(section(3, &[1, 0]));
    module.extend(section(10, &[&[1][..], &leb(body.len()), &body].concat()));
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend(section(1, &module));
    component
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
