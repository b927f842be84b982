// Package hostile holds no code but tests: what clients can do to the real command that they should not do.
package hostile
