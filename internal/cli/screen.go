package cli

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// screen is a terminal that is drawn over and over.
type screen struct {
	in, out *os.File
	reading sync.WaitGroup
	before  *unix.Termios // what the terminal was like; nil if keys are not read
}

// newScreen returns the terminal behind standard output. ok is false if that is not a terminal. Keys
// are read if standard input is one, too.
func newScreen(in io.Reader, out io.Writer) (s *screen, ok bool) {
	s = new(screen)
	if s.out, ok = out.(*os.File); !ok || !isTerminal(s.out) {
		return nil, false
	}
	if file, ok := in.(*os.File); ok && isTerminal(file) {
		s.in = file
	}
	return s, true
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// The size of a terminal that does not tell its own.
const usualRows, usualColumns = 24, 80

func (s *screen) size() (rows, columns int) {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return usualRows, usualColumns
	}
	return int(size.Row), int(size.Col)
}

func (s *screen) rows() int {
	rows, _ := s.size()
	return rows
}

// The control sequences of terminals that draw uses.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // a screen of its own, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toBegin     = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// open shows the screen and returns the keys that are pressed until ctx ends.
func (s *screen) open(ctx context.Context) (keys <-chan byte) {
	_, _ = io.WriteString(s.out, enterScreen) // draw has the error
	pressed := make(chan byte)                // nobody closes it
	if s.in == nil {
		return pressed
	}
	fd := int(s.in.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return pressed
	}
	// Keys come one by one and are not shown. A read ends after a tenth of a second, so that its
	// goroutine ends with ctx. Ctrl-C stays a signal.
	now := *before
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 0, 1
	if unix.IoctlSetTermios(fd, setTermios, &now) != nil {
		return pressed
	}
	s.before = before
	s.reading.Go(func() {
		var key [1]byte
		for ctx.Err() == nil {
			n, err := unix.Read(fd, key[:])
			switch {
			case err != nil && err != unix.EINTR:
				return
			case n == 1:
				select {
				case pressed <- key[0]:
				case <-ctx.Done():
				}
			}
		}
	})
	return pressed
}

// close gives the terminal back as it was. The context of open has ended.
func (s *screen) close() {
	s.reading.Wait()
	if s.before != nil {
		_ = unix.IoctlSetTermios(int(s.in.Fd()), setTermios, s.before) // without a terminal, there is nothing to restore
	}
	_, _ = io.WriteString(s.out, leaveScreen) // likewise
}

// draw draws text over what was there.
func (s *screen) draw(text string) error {
	rows, columns := s.size()
	lines := fit(text, rows-1, columns)
	_, err := io.WriteString(s.out, toBegin+strings.Join(lines, clearLine+"\r\n")+clearLine+"\r\n"+clearBelow)
	return err
}
