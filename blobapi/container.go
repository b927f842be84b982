package blobapi

import (
	"errors"
	"net/http"

	"github.com/iolite-emulator/iolite/store"
)

// createContainer is PUT ?restype=container.
func (s *Server) createContainer(w http.ResponseWriter, r *request) error {
	list, err := metadata(r)
	if err != nil {
		return err
	}
	c, err := s.blobs.CreateContainer(r.Context(), r.target.container, list, r.now)
	if errors.Is(err, store.ErrExists) {
		return refuse(containerAlreadyExists, "")
	}
	if err != nil {
		return notThere(err)
	}
	setTags(w.Header(), c.ETag, c.Modified)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// getContainer is GET and HEAD ?restype=container.
func (s *Server) getContainer(w http.ResponseWriter, r *request) error {
	c, err := s.blobs.Container(r.Context(), r.target.container)
	if err != nil {
		return notThere(err)
	}
	h := w.Header()
	setTags(h, c.ETag, c.Modified)
	setMetadata(h, c.Metadata)
	h["x-ms-lease-state"], h["x-ms-lease-status"] = []string{"available"}, []string{"unlocked"}
	h["x-ms-has-immutability-policy"], h["x-ms-has-legal-hold"] = []string{"false"}, []string{"false"}
	w.WriteHeader(http.StatusOK)
	return nil
}

// deleteContainer is DELETE ?restype=container.
func (s *Server) deleteContainer(w http.ResponseWriter, r *request) error {
	if err := s.blobs.DeleteContainer(r.Context(), r.target.container); err != nil {
		return notThere(err)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
