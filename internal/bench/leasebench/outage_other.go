//go:build !unix

package leasebench

import "errors"

func stopProcess(int) error { return errors.ErrUnsupported }

func resumeProcess(int) error { return errors.ErrUnsupported }
