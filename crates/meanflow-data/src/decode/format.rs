//! Which format a file is in, by its first bytes, for errors that name what they found.

/// Starts of files that people take for pictures, at a place, and what they are.
const STARTS: [(usize, &[u8], &str); 22] = [
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftyp", "a film or a picture in ISO's base media format"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (
        0,
        b"\0\x05\x16\x07",
        "AppleDouble, which macOS writes beside a file",
    ),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS; `git lfs pull` fetches the picture",
    ),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"P6", "PPM"),
    (0, b"P5", "PGM"),
];

/// The name of a format that is not read, and how the file begins.
pub(super) fn name_of(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file of 0 bytes".to_owned();
    }
    let found = STARTS
        .iter()
        .find(|(at, start, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(start)));
    if let Some((_, _, name)) = found {
        return (*name).to_owned();
    }
    let start = &bytes[..bytes.len().min(8)];
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_ascii_lowercase();
    let text = text.trim_start();
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return "HTML, such as the page of an error".to_owned();
    }
    if text.starts_with("<svg") || text.starts_with("<?xml") {
        return "SVG or other XML".to_owned();
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return format!("{} bytes of zeros", bytes.len());
    }
    format!(
        "an unknown format that begins with {}",
        start.escape_ascii()
    )
}
