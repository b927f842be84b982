package main

import (
	"fmt"
	"runtime/debug"
)

// release is set by the release build with -ldflags "-X main.release=v1.2.3".
var release string

// version returns the release, or what the Go tool noted down of the checkout.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel " + s.Value[:12]
		}
	}
	return info.Main.Version
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, "iolite", version())
	return err
}
