package socket

import (
	"bytes"
	"crypto/tls"
	"iter"
	"reflect"
	"unsafe"
)

// tlsBuffers says where a [tls.Conn] has the buffers for what it receives. They stay as large as they
// have ever been, mostly for a ClientHello: 3.5 KiB for each idle connection. crypto/tls cannot be
// asked to let go of them. If a version of Go has them elsewhere, nothing is found and nothing saved.
var tlsBuffers = findTLSBuffers() //nolint:gochecknoglobals // a property of crypto/tls

func findTLSBuffers() (offsets []uintptr) {
	conn, buffer := reflect.TypeFor[tls.Conn](), reflect.TypeFor[bytes.Buffer]()
	for _, name := range []string{"rawInput", "hand"} {
		if f, ok := conn.FieldByName(name); ok && f.Type == buffer {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// spareBuffer is how large an empty buffer may stay: it suffices for most messages.
const spareBuffer = 1 << 10

// spare lets go of large buffers that are empty. The caller reads from the connection, and has got
// everything that it could: crypto/tls hands out parts of these buffers.
func spare(c *tls.Conn) {
	for b := range buffersOf(c) {
		if b.Len() == 0 && b.Cap() > spareBuffer {
			*b = bytes.Buffer{}
		}
	}
}

// partial returns how many bytes hold a record that has begun to come, 0 if there is none.
func partial(c *tls.Conn) (bytes int) {
	for b := range buffersOf(c) {
		if b.Len() > 0 {
			bytes += b.Cap()
		}
	}
	return bytes
}

// buffersOf yields the buffers of a connection.
func buffersOf(c *tls.Conn) iter.Seq[*bytes.Buffer] {
	return func(yield func(*bytes.Buffer) bool) {
		for _, offset := range tlsBuffers {
			b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset)) //nolint:gosec // it is one, says reflect
			if !yield(b) {
				return
			}
		}
	}
}
