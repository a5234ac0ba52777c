package app

import "testing"

// TestFileShares: a limit of open files is shared out so that everybody has some.
func TestFileShares(t *testing.T) {
	for _, test := range []struct{ total, redis, own, connections int }{
		{0, 20, 0, 0}, {64, 20, 32, 16}, {256, 20, 128, 64}, {512, 20, 128, 256}, {700, 20, 128, 444}, {1024, 20, 128, 768}, {20000, 20, 128, 19744}, {20000, 640, 704, 19168},
	} {
		got := shareFiles(test.total, test.redis)
		if got.own != test.own || got.connections != test.connections {
			t.Errorf("%d files: got %+v, want %d and %d", test.total, got, test.own, test.connections)
		}
	}
	for total := 1; total < 3000; total++ {
		f := shareFiles(total, 20)
		if f.connections < 1 || total >= fewestFiles && (f.connections >= f.sockets() || f.sockets()+f.own != total) {
			t.Fatalf("%d files: got %+v", total, f)
		}
	}
}
