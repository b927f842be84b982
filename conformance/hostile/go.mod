module github.com/iolite-emulator/iolite/conformance/hostile

go 1.26.0

require (
	github.com/Azure/go-amqp v1.7.0
	github.com/iolite-emulator/iolite v0.0.0
)

require (
	github.com/go-chi/chi/v5 v5.5.0 // indirect
	github.com/gofrs/flock v0.13.2 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/iolite-emulator/iolite => ../..
