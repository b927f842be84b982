package blobapi

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/iolite-emulator/iolite/clock"
)

// code is a storage error code (articles "Common REST API error codes" and "Blob Storage error codes").
type code string

// The codes of the table below.
const (
	authenticationFailed              code = "AuthenticationFailed"
	authorizationPermissionMismatch   code = "AuthorizationPermissionMismatch"
	authorizationResourceTypeMismatch code = "AuthorizationResourceTypeMismatch"
	authorizationServiceMismatch      code = "AuthorizationServiceMismatch"
	authorizationSourceIPMismatch     code = "AuthorizationSourceIPMismatch"
	blobAlreadyExists                 code = "BlobAlreadyExists"
	blobNotFound                      code = "BlobNotFound"
	blockCountExceedsLimit            code = "BlockCountExceedsLimit"
	blockListTooLong                  code = "BlockListTooLong"
	conditionNotMet                   code = "ConditionNotMet"
	containerAlreadyExists            code = "ContainerAlreadyExists"
	containerNotFound                 code = "ContainerNotFound"
	crc64Mismatch                     code = "Crc64Mismatch"
	internalError                     code = "InternalError"
	invalidBlobOrBlock                code = "InvalidBlobOrBlock"
	invalidBlockID                    code = "InvalidBlockId"
	invalidBlockList                  code = "InvalidBlockList"
	invalidHeaderValue                code = "InvalidHeaderValue"
	invalidInput                      code = "InvalidInput"
	invalidMD5                        code = "InvalidMd5"
	invalidMetadata                   code = "InvalidMetadata"
	invalidQueryParameterValue        code = "InvalidQueryParameterValue"
	invalidRange                      code = "InvalidRange"
	invalidResourceName               code = "InvalidResourceName"
	invalidURI                        code = "InvalidUri"
	invalidXMLDocument                code = "InvalidXmlDocument"
	leaseNotPresent                   code = "LeaseNotPresentWithBlobOperation"
	md5Mismatch                       code = "Md5Mismatch"
	metadataTooLarge                  code = "MetadataTooLarge"
	missingContentLengthHeader        code = "MissingContentLengthHeader"
	missingRequiredHeader             code = "MissingRequiredHeader"
	missingRequiredQueryParameter     code = "MissingRequiredQueryParameter"
	noAuthenticationInformation       code = "NoAuthenticationInformation"
	notImplemented                    code = "NotImplemented"
	operationTimedOut                 code = "OperationTimedOut"
	outOfRangeInput                   code = "OutOfRangeInput"
	requestBodyTooLarge               code = "RequestBodyTooLarge"
	unauthorizedBlobOverwrite         code = "UnauthorizedBlobOverwrite"
	unsupportedHTTPVerb               code = "UnsupportedHttpVerb"
)

// table holds the HTTP status and the text of every code.
var table = map[code]struct {
	status int
	text   string
}{
	authenticationFailed:              {403, "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."},
	authorizationPermissionMismatch:   {403, "This request is not authorized to perform this operation using this permission."},
	authorizationResourceTypeMismatch: {403, "This request is not authorized to perform this operation using this resource type."},
	authorizationServiceMismatch:      {403, "This request is not authorized to perform this operation using this service."},
	authorizationSourceIPMismatch:     {403, "This request is not authorized to perform this operation using this source IP."},
	blobAlreadyExists:                 {409, "The specified blob already exists."},
	blobNotFound:                      {404, "The specified blob does not exist."},
	blockCountExceedsLimit:            {409, "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks."},
	blockListTooLong:                  {400, "The block list may not contain more than 50,000 blocks."},
	conditionNotMet:                   {412, "The condition specified using HTTP conditional header(s) is not met."},
	containerAlreadyExists:            {409, "The specified container already exists."},
	containerNotFound:                 {404, "The specified container does not exist."},
	crc64Mismatch:                     {400, "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server."},
	internalError:                     {500, "The server encountered an internal error. Please retry the request."},
	invalidBlobOrBlock:                {400, "The specified blob or block content is invalid."},
	invalidBlockID:                    {400, "The specified block ID is invalid. The block ID must be Base64-encoded."},
	invalidBlockList:                  {400, "The specified block list is invalid."},
	invalidHeaderValue:                {400, "The value for one of the HTTP headers is not in the correct format."},
	invalidInput:                      {400, "One of the request inputs is not valid."},
	invalidMD5:                        {400, "The MD5 value specified in the request is invalid. The MD5 value must be 128 bits and Base64-encoded."},
	invalidMetadata:                   {400, "The specified metadata is invalid. It includes characters that are not permitted."},
	invalidQueryParameterValue:        {400, "Value for one of the query parameters specified in the request URI is invalid."},
	invalidRange:                      {416, "The range specified is invalid for the current size of the resource."},
	invalidResourceName:               {400, "The specified resource name contains invalid characters."},
	invalidURI:                        {400, "The requested URI does not represent any resource on the server."},
	invalidXMLDocument:                {400, "XML specified is not syntactically valid."},
	leaseNotPresent:                   {412, "There is currently no lease on the blob."},
	md5Mismatch:                       {400, "The MD5 value specified in the request did not match with the MD5 value calculated by the server."},
	metadataTooLarge:                  {400, "The size of the specified metadata exceeds the maximum size permitted."},
	missingContentLengthHeader:        {411, "The content length header was not specified."},
	missingRequiredHeader:             {400, "An HTTP header that's mandatory for this request is not specified."},
	missingRequiredQueryParameter:     {400, "A query parameter that's mandatory for this request is not specified."},
	noAuthenticationInformation:       {401, "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."},
	notImplemented:                    {501, "Iolite does not do this."},
	operationTimedOut:                 {500, "The operation could not be completed within the permitted time."},
	outOfRangeInput:                   {400, "One of the request inputs is out of range."},
	requestBodyTooLarge:               {413, "The request body is too large and exceeds the maximum permissible limit."},
	unauthorizedBlobOverwrite:         {403, "This request is not authorized to perform blob overwrites."},
	unsupportedHTTPVerb:               {405, "The resource doesn't support the specified HTTP verb."},
}

// failure is an error of the table.
type failure struct {
	code           code
	detail         string // what exactly; empty when the text says all
	authentication string // why authentication failed
}

// Error implements error.
func (f *failure) Error() string { return string(f.code) + ": " + table[f.code].text + " " + f.detail }

func refuse(c code, detail string) error { return &failure{code: c, detail: detail} }

// errorBody is the XML of an error.
type errorBody struct {
	XMLName        xml.Name `xml:"Error"`
	Code           code
	Message        string
	Authentication string `xml:"AuthenticationErrorDetail,omitempty"`
}

// maxDrain is how much of a refused body is read all the same, so that its sender gets to read the answer. Bytes. It has no more time than the
// door gives any request: who sends it may have proved nothing.
const maxDrain = 64 << 20

// fail answers with err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := s.failureOf(r, err)
	if r.Header.Get("Expect") == "" { // who waits for a word before the body has not sent it
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(clock.Wall().Add(renewal)) // that of the body may be over
	row, h := table[f.code], w.Header()
	h["x-ms-error-code"] = []string{string(f.code)}
	if f.code == noAuthenticationInformation {
		h.Set("WWW-Authenticate", "SharedKey")
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(row.status)
		return
	}
	message := row.text
	if f.detail != "" {
		message += " (" + f.detail + ")"
	}
	message += "\nRequestId:" + strings.Join(map[string][]string(h)[requestIDHeader], "") + "\nTime:" + s.clock.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")
	writeXML(w, row.status, errorBody{Code: f.code, Message: message, Authentication: f.authentication})
}

// failureOf returns the failure to answer with, and logs what nobody asked for.
func (s *Server) failureOf(r *http.Request, err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		if f.code == notImplemented {
			s.log.Warn("not implemented", "feature", "blob storage: "+f.detail, "method", r.Method, "path", r.URL.EscapedPath())
		}
		return f
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return &failure{code: invalidInput, detail: "the body ends before the length that was said"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &failure{code: operationTimedOut, detail: "nothing of the body came for " + patience.String()}
	}
	s.log.Error("blob request failed", "method", r.Method, "path", r.URL.EscapedPath(), "error", err)
	return &failure{code: internalError}
}

// writeXML answers with an XML document.
func writeXML(w http.ResponseWriter, status int, value any) {
	text, err := xml.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), text...)) // the client is gone: nobody to tell
}
