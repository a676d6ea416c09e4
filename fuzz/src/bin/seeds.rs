//! Writes the seeds of all targets to `FOLDER/<target>/`, and the dictionary to `FOLDER/words`.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "say the folder to write to"));
    };
    for target in wsgate_fuzz::NAMED {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:02}")), seed)?;
        }
    }
    fs::write(folder.join("words"), wsgate_fuzz::dictionary())
}
