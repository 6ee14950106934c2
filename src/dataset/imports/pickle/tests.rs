//! Method: pickles spelt by hand, opcode by opcode. What Python itself writes is read in `tests/workshop/poses.rs`.

use super::machine::{MARKS_MAX, whole};
use super::*;

fn fault(bytes: &[u8]) -> String {
    Pickle::read(bytes).err().unwrap_or_else(|| panic!("{:?} was read", String::from_utf8_lossy(bytes)))
}

/// `{'a': array([[1, 2, 3], [4, 5, 6]], dtype='<i2', order='F')}` as protocol 2 spells it, bytes and all.
const ARRAY: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85c_codecs\n\
    encode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R(K\x01K\x02K\x03\x86cnumpy\ndtype\nX\x02\x00\x00\x00i2\x89\x88\x87R\
    (K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88c_codecs\nencode\nX\x0c\x00\x00\x00\
    \x01\x00\x04\x00\x02\x00\x05\x00\x03\x00\x06\x00X\x06\x00\x00\x00latin1\x86Rtbs.";

#[test]
fn an_array_is_read_in_c_order_and_its_keys_are_listed() {
    let pickle = Pickle::read(ARRAY).unwrap();
    assert_eq!(pickle.arrays().unwrap(), [("a".to_owned(), vec![2, 3])]);
    let array = pickle.array_of("a").unwrap();
    assert_eq!(pickle.numbers(array).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(pickle.array_of("b").is_none() && pickle.array().is_none());
}

#[test]
fn a_pickle_cut_off_anywhere_is_an_error() {
    for length in 0..ARRAY.len() {
        assert!(Pickle::read(&ARRAY[..length]).is_err(), "{length}");
    }
    assert!(fault(&ARRAY[..40]).contains("truncated"));
}

#[test]
fn a_name_that_is_not_known_is_refused_by_its_name() {
    for (bytes, name) in [
        (&b"cos\nsystem\n(S'touch /tmp/pwned'\ntR."[..], "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "posix.system"),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
        (b"(ios\nsystem\nS'id'\n.", "os.system"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
    ] {
        let fault = fault(bytes);
        assert!(fault.contains(name) && fault.contains("nothing of it was run"), "{fault}");
    }
}

#[test]
fn opcodes_that_are_no_plain_data_are_refused() {
    for (bytes, word) in [
        (&b"\x80\x02cnumpy\nndarray\n)\x81."[..], "class"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "outside the file"),
        (b"\x80\x02\x82\x01.", "extension"),
        (b"\x80\x05\x97.", "buffers outside"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\xff", "0xff"),
    ] {
        let fault = fault(bytes);
        assert!(fault.contains(word), "{fault}");
    }
}

#[test]
fn what_is_damaged_is_told_and_does_not_panic() {
    for bytes in [
        &b"."[..],
        b"(.",
        b"a.",
        b"t.",
        b"N(b.",
        b"NNR.",
        b"]N\x90.",
        b"(Nd.",
        b"(NNu.",
        b"h\x00.",
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xffx.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.",
        b"c_codecs\nencode\nX\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1\x86R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"cnumpy\ndtype\n(X\x00\x00\x00\x00tR.",
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR)b.",
        b"V\\u12\n.",
        b"S'\\\n.",
    ] {
        let _ = fault(bytes);
    }
    // Every single byte of a sound pickle, spoilt in three ways.
    for at in 0..ARRAY.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = ARRAY.to_vec();
            bytes[at] ^= flip;
            if let Ok(pickle) = Pickle::read(&bytes) {
                let _ = pickle.array_of("a").map(|array| pickle.numbers(array));
            }
        }
    }
}

#[test]
fn a_pickle_that_grows_or_never_ends_is_stopped() {
    let mut steps = b"\x80\x02".to_vec();
    steps.resize(STEPS_MAX + 10, b'N');
    assert!(fault(&steps).contains("steps"));
    let text = "a".repeat(1000);
    let once = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0";
    let mut grows = [b"X\xe8\x03\x00\x00", text.as_bytes(), b"q\x00"].concat();
    (0..100).for_each(|_| grows.extend(once));
    assert!(fault(&grows).contains("five times"));
    let mut marks = vec![b'('; MARKS_MAX + 1];
    marks.push(b'.');
    assert!(fault(&marks).contains("within each other"));
    let cycle = b"]q\x00h\x00a.";
    assert!(Pickle::read(cycle).unwrap().array().is_none(), "a list that holds itself is walked by nobody");
}

#[test]
fn plain_data_of_every_protocol_is_passed_over() {
    for bytes in [
        &b"(dp0\nVa\np1\nI1\nsVb\np2\nF1.5\ns."[..],
        b"(lp0\nI01\naL5L\naNaS'x\\x00\\n'\na.",
        b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01G?\xf8\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00bq\x02\x88u.",
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8f\x94(K\x01K\x02\x90(K\x03\x91.",
        b"ccollections\nOrderedDict\n)RX\x01\x00\x00\x00aNs.",
    ] {
        Pickle::read(bytes).unwrap_or_else(|e| panic!("{:?}: {e}", String::from_utf8_lossy(bytes)));
    }
    assert_eq!(whole(&[0xff]).unwrap(), -1);
    assert_eq!(whole(&[0x00, 0x80]).unwrap(), -32768);
    assert_eq!(whole(&[]).unwrap(), 0);
}
