// Package bench is the load generator behind `gateway bench`. It opens connections, signs in,
// joins groups, publishes through Redis, checks every single delivery and reports what the server
// spent on it. It knows the server from outside only: its protocol, its Redis names, its cookies.
//
// The client must cost far less than the server it measures. So there is no goroutine per
// connection: a few event loops over epoll read into one shared buffer each and find what they
// check without decoding JSON (see payload.go).
//
// The same client and the same load also run against a server that only writes ([Limit]), so that
// every figure has its ratio to what the machine allows.
package bench
