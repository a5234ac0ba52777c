package wire

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendText appends a text as a JSON string in the form of Python's json.dumps, which escapes
// everything outside of printable ASCII.
func appendText(dst, s []byte) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		s = s[size:]
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case ' ' <= r && r <= '~':
			dst = append(dst, byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = appendEscape(appendEscape(dst, high), low)
		default:
			dst = appendEscape(dst, r)
		}
	}
	return append(dst, '"')
}

// appendEscape appends a code unit of UTF-16.
func appendEscape(dst []byte, r rune) []byte {
	return append(dst, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}

// appendFloat appends a finite number as Python's repr writes it: the fewest digits that give this
// number, with an exponent below 0.0001 and from 1e16 on, and never like an integer.
func appendFloat(dst []byte, f float64) []byte {
	short := strconv.FormatFloat(f, 'e', -1, 64)
	digits, power, _ := strings.Cut(short, "e")
	exponent, err := strconv.Atoi(power)
	if err != nil || exponent < -4 || exponent >= 16 {
		return append(append(append(dst, digits...), 'e'), power...)
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	dst = append(dst, plain...)
	if !strings.Contains(plain, ".") {
		dst = append(dst, ".0"...)
	}
	return dst
}
