package sse

import (
	"net"
	"net/http"

	"orgcast/internal/socket"
)

// Wish shows what a request stands for, which it answers if that is no stream. ids is what the
// client would send back at once.
func (c *Carrier) Wish(w http.ResponseWriter, r *http.Request, b socket.Budget) (message []byte, ids string, err error) {
	asked, err := c.wishOf(w, r, b)
	if why, ok := err.(refusal); ok { //nolint:errorlint // it is never wrapped
		why.answer(w)
	}
	if asked.cursor != nil {
		ids = string(asked.cursor.appendID(nil))
	}
	return asked.message, ids, err
}

// NewStream returns the stream of a connection, without a head. Its ids are of groups, if there are
// any.
func (c *Carrier) NewStream(conn net.Conn, groups ...string) *Stream {
	var asked wish
	if len(groups) > 0 {
		asked.cursor = new(cursor)
	}
	for _, name := range groups {
		asked.cursor.add(name)
	}
	return newStream(conn, &c.options, asked)
}

// PieceSize is that of writes.
const PieceSize = pieceSize
