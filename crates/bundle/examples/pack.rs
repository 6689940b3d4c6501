//! Packs a folder of files as crate files, or checks a bundle: for measuring beside `tar cf`, `tar xf` and `sha256sum`.
//!
//! `pack FOLDER OUT` takes files whose names are their SHA-256; `check FILE`; `unpack FILE FOLDER`.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use bundle::{Contents, CrateFile, Description, Id, MemberName, Plan, SecretKey, Time, Trust, check, open};

fn pack(folder: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut crates = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let checksum = entry.file_name().to_string_lossy().parse()?;
        crates.push(CrateFile {
            checksum,
            bytes: entry.metadata()?.len(),
        });
    }
    let key = SecretKey::generate()?;
    let bundle = Description {
        id: Id::random()?,
        site: Id::random()?,
        serial: 1,
        parent: None,
        created: Time::now(),
        creator: "an example".to_owned(),
        key: Some(key.public_key()),
        index: None,
        wanted_missing: 0,
    };
    let plan = Plan::new(
        Contents {
            bundle,
            changes: None,
            decisions: None,
            crates,
        },
        None,
    )?;
    let mut writer = plan.write_part(1, File::create(out)?, Some(&key))?;
    while let Some((_, stored)) = writer.wanted() {
        writer.put(File::open(folder.join(stored.checksum.to_hex()))?)?;
    }
    writer.finish()?;
    Ok(())
}

fn unpack(file: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut members = open(File::open(file)?)?.trusting(Trust::Anyone)?;
    while let Some(member) = members.next_member()? {
        if let MemberName::Crate(checksum) = member.name() {
            member.copy_to(&mut File::create(folder.join(checksum.to_hex()))?)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pack", folder, out] => pack(Path::new(folder), Path::new(out)),
        ["unpack", file, folder] => unpack(Path::new(file), Path::new(folder)),
        ["check", file] => {
            let report = check(File::open(file)?, Trust::Anyone)?;
            println!("{} crate files of {} bytes", report.crates.files, report.crates.bytes);
            Ok(())
        }
        _ => Err("pack FOLDER OUT, unpack FILE FOLDER, or check FILE".into()),
    }
}
