//! Master keys: their format, their ids, encryption and decryption.

use crate::registry::secrets::{NONCE_BYTES, Sealed, StoredSecret};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use orama_runtime::services::SecretValue;
use std::fmt;
use zeroize::Zeroizing;

/// Size of an AES-256 key, in bytes.
const KEY_BYTES: usize = 32;

/// Hex digits of a key in its text form.
pub const KEY_HEX_DIGITS: usize = 2 * KEY_BYTES;

/// Size of a key's id, in bytes. It distinguishes keys and is not a security measure.
const KEY_ID_BYTES: usize = 8;

/// Context of the derivation of ids from keys, so that an id reveals nothing about the key.
const KEY_ID_CONTEXT: &str = "orama-functions 2026-02 id of a master key for secrets";

/// Prefix of the associated data, for domain separation.
const SEAL_MARK: &[u8] = b"orama-secret-1";

/// A key that encrypts secrets. Its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: String,
}

impl MasterKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let derived = Zeroizing::new(blake3::derive_key(KEY_ID_CONTEXT, &*bytes));
        let id = derived.iter().take(KEY_ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, id }
    }

    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self::new(bytes))
    }

    /// Parses 64 hex digits. `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        if text.len() != KEY_HEX_DIGITS {
            return None;
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let digit = |c: &u8| char::from(*c).to_digit(16);
            *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
        }
        Some(Self::new(bytes))
    }

    /// The text form, for a key file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        // Allocated at its full size: growing would leave a copy of a key in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(KEY_HEX_DIGITS));
        for byte in self.bytes.iter() {
            text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        text
    }

    /// The key's id. It reveals nothing about the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*self.bytes))
    }

    /// Encrypts a secret's value with a random nonce. With a million values under one key, two nonces collide with a probability
    /// of 2^-57.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub(crate) fn seal(&self, of: Place<'_>, value: &str) -> Result<Sealed, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        // Encrypted in place, so no copy of the plain text remains.
        let mut ciphertext = Vec::with_capacity(value.len() + TAG_BYTES);
        ciphertext.extend_from_slice(value.as_bytes());
        self.cipher()
            .encrypt_in_place(<&Nonce<_>>::from(&nonce), &of.associated_data(), &mut ciphertext)
            // Happens only above 64 GB.
            .map_err(|_| getrandom::Error::UNSUPPORTED)?;
        Ok(Sealed { key_id: self.id.clone(), nonce, ciphertext })
    }

    /// Decrypts a stored value. `None` if another key encrypted it, if it belongs to another place, or if it was changed.
    pub(crate) fn open(&self, namespace: &str, name: &str, stored: StoredSecret) -> Option<SecretValue> {
        let StoredSecret { version, sealed } = stored;
        let of = Place { namespace, name, version };
        let mut text = Zeroizing::new(sealed.ciphertext);
        self.cipher()
            .decrypt_in_place(<&Nonce<_>>::from(&sealed.nonce), &of.associated_data(), &mut *text)
            .ok()?;
        match String::from_utf8(std::mem::take(&mut *text)) {
            Ok(text) => Some(SecretValue::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                None
            }
        }
    }
}

/// Size of AES-GCM's tag, in bytes.
const TAG_BYTES: usize = 16;

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for MasterKey {}

// A key must not reach a log by accident.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The secret to which a value belongs. A ciphertext that was copied to another secret does not decrypt.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub version: i64,
}

impl Place<'_> {
    /// Each text is prefixed with its length, so different places never have the same bytes.
    fn associated_data(&self) -> Vec<u8> {
        let mut data = SEAL_MARK.to_vec();
        for text in [self.namespace, self.name] {
            data.extend_from_slice(&(text.len() as u64).to_le_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        data.extend_from_slice(&self.version.to_le_bytes());
        data
    }
}

/// Several master keys: the first encrypts, all decrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// Parses keys of 64 hex digits each.
    ///
    /// # Errors
    /// A message that names a wrong key by its position, and never its text.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let place = index + 1;
            let key = MasterKey::parse(text).ok_or_else(|| {
                let length = text.chars().count();
                format!("key {place} is not {KEY_HEX_DIGITS} hex digits (it has {length} characters)")
            })?;
            if keys.contains(&key) {
                return Err(format!("key {place} is a duplicate"));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or("it has no key")?;
        Ok(Self { current, others: keys.collect() })
    }

    /// A ring of one key.
    pub fn only(current: MasterKey) -> Self {
        Self { current, others: Vec::new() }
    }

    /// The same keys with a new first one.
    pub fn with_first(&self, current: MasterKey) -> Self {
        Self { current, others: self.all().cloned().collect() }
    }

    /// The key that encrypts.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The keys that only decrypt.
    pub fn others(&self) -> &[MasterKey] {
        &self.others
    }

    /// All keys, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// The key with an id.
    pub fn find(&self, id: &str) -> Option<&MasterKey> {
        self.all().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Place<'_> = Place { namespace: "ab", name: "c", version: 1 };

    fn open(key: &MasterKey, place: Place<'_>, sealed: &Sealed) -> Option<String> {
        let stored = StoredSecret { version: place.version, sealed: sealed.clone() };
        key.open(place.namespace, place.name, stored).map(|value| value.reveal().to_owned())
    }

    #[test]
    fn a_value_opens_only_in_its_place_and_unchanged() {
        let key = MasterKey::generate().unwrap();
        for value in ["", "s3cret", &"ä€".repeat(20_000)] {
            let sealed = key.seal(HOME, value).unwrap();
            assert_eq!(open(&key, HOME, &sealed).as_deref(), Some(value));
        }
        let sealed = key.seal(HOME, "s3cret").unwrap();
        for elsewhere in [
            Place { namespace: "a", name: "bc", ..HOME },
            Place { namespace: "abc", name: "", ..HOME },
            Place { name: "d", ..HOME },
            Place { version: 2, ..HOME },
        ] {
            assert_eq!(open(&key, elsewhere, &sealed), None, "{elsewhere:?}");
        }
        for index in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[index] ^= 1;
            assert_eq!(open(&key, HOME, &changed), None, "byte {index}");
        }
        let cut = Sealed { ciphertext: sealed.ciphertext[..TAG_BYTES - 1].to_vec(), ..sealed.clone() };
        assert_eq!(open(&key, HOME, &cut), None);
        let other_nonce = Sealed { nonce: [0; NONCE_BYTES], ..sealed.clone() };
        assert_eq!(open(&key, HOME, &other_nonce), None);
        assert_eq!(open(&MasterKey::generate().unwrap(), HOME, &sealed), None, "another key");
    }

    #[test]
    fn the_same_value_is_never_encrypted_alike() {
        let key = MasterKey::generate().unwrap();
        // Long enough that no ciphertext begins with it by chance.
        let value = "sixteen letters!";
        let (one, two) = (key.seal(HOME, value).unwrap(), key.seal(HOME, value).unwrap());
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.ciphertext, two.ciphertext);
        assert!(!one.ciphertext.starts_with(value.as_bytes()));
    }

    #[test]
    fn a_known_value_decrypts_as_it_always_did() {
        // Made by another implementation of AES-GCM (Python's cryptography). The format must not change.
        let key = MasterKey::parse(&"000102030405060708090a0b0c0d0e0f".repeat(2)).unwrap();
        let sealed =
            Sealed { key_id: key.id().to_owned(), nonce: *b"nonce-12-byt", ciphertext: FIXTURE.to_vec() };
        assert_eq!(key.id(), FIXTURE_KEY_ID);
        assert_eq!(open(&key, HOME, &sealed).as_deref(), Some("s3cret"));
    }

    const FIXTURE: &[u8] = &[
        175, 168, 59, 70, 170, 169, 85, 166, 159, 199, 157, 37, 180, 238, 87, 65, 240, 193, 71, 166, 86, 50,
    ];
    const FIXTURE_KEY_ID: &str = "81274ca5b06310b0";

    #[test]
    fn keys_are_read_and_written_as_hex_and_told_by_their_place_when_wrong() {
        let (one, two) = ("0123456789abcdef".repeat(4), "FEDCBA9876543210".repeat(4));
        let keys = MasterKeys::parse([&*one, &*two]).unwrap();
        assert_eq!(*keys.current().to_hex(), one);
        assert_eq!(*keys.others()[0].to_hex(), two.to_lowercase());
        assert_ne!(keys.current().id(), keys.others()[0].id());
        assert_eq!(keys.find(keys.others()[0].id()), Some(&keys.others()[0]));
        let umlauts = "ä".repeat(32);
        for (texts, expected) in [
            (vec![], "it has no key"),
            (vec![""], "key 1 is not 64 hex digits (it has 0 characters)"),
            (vec![&*one, &one[1..]], "key 2 is not 64 hex digits (it has 63 characters)"),
            (vec![&*one, &*two, &*umlauts], "key 3 is not 64 hex digits (it has 32 characters)"),
            (vec![&*one, &*two, &*one], "key 3 is a duplicate"),
        ] {
            assert_eq!(MasterKeys::parse(texts).unwrap_err(), expected);
        }
        let spaced = format!(" {}", &one[1..]);
        let signed = format!("+{}", &one[1..]);
        for bad in [&*spaced, &*signed] {
            let message = MasterKeys::parse([bad]).unwrap_err();
            assert!(message.starts_with("key 1 is not 64") && !message.contains("23456"), "{message}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let hex = "0123456789abcdef".repeat(4);
        let keys = MasterKeys::parse([&*hex]).unwrap();
        let shown = format!("{keys:?}");
        assert!(shown.contains(keys.current().id()), "{shown}");
        assert!(!shown.contains("0123") && !shown.contains("35, 69") && !shown.contains("[1"), "{shown}");
    }
}
