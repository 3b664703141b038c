// A receiver as a team that knows Go would write it, to be measured beside ours: net/http, crypto/rsa, franz-go.
//
// It makes those promises that cost something for each notification: a body of at most 256 KiB, each name once, the
// signature of one pinned key, the application and the seller of the account, and `success` only after all in-sync
// replicas have the record. Without -brokers it verifies and logs nothing.
package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const bodyBytesMax = 256 << 10

var (
	errMalformed   = errors.New("malformed")
	errUnauthentic = errors.New("not signed by the account's key")
	errNotOurs     = errors.New("meant for another merchant")
)

// account is what a notification is checked against.
type account struct {
	key    *rsa.PublicKey
	app    string
	seller string
}

// check returns the order's number of an authentic form for this account.
func (a *account) check(body []byte) (string, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", errMalformed
	}
	text, err := canonical(form)
	if err != nil {
		return "", err
	}
	signature, err := base64.StdEncoding.DecodeString(form.Get("sign"))
	if err != nil || form.Get("sign_type") != "RSA2" {
		return "", errUnauthentic
	}
	digest := sha256.Sum256(text)
	if rsa.VerifyPKCS1v15(a.key, crypto.SHA256, digest[:], signature) != nil {
		return "", errUnauthentic
	}
	if form.Get("app_id") != a.app || form.Get("seller_id") != a.seller {
		return "", errNotOurs
	}
	return form.Get("out_trade_no"), nil
}

// canonical returns the text that Alipay signs: the parameters with a value in the order of their names.
func canonical(form url.Values) ([]byte, error) {
	names := make([]string, 0, len(form))
	size := 0
	for name, values := range form {
		if len(values) != 1 {
			return nil, errMalformed
		}
		if name != "sign" && name != "sign_type" && values[0] != "" {
			names = append(names, name)
			size += len(name) + len(values[0]) + 2
		}
	}
	slices.Sort(names)
	text := make([]byte, 0, size)
	for i, name := range names {
		if i > 0 {
			text = append(text, '&')
		}
		text = append(text, name...)
		text = append(text, '=')
		text = append(text, form[name][0]...)
	}
	return text, nil
}

// receiver answers notifications. Without a client it logs nothing.
type receiver struct {
	account *account
	client  *kgo.Client
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, bodyBytesMax))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge)
		return
	}
	order, err := r.account.check(body)
	switch {
	case errors.Is(err, errMalformed):
		refuse(w, http.StatusBadRequest)
	case errors.Is(err, errUnauthentic):
		refuse(w, http.StatusUnauthorized)
	case errors.Is(err, errNotOurs):
		refuse(w, http.StatusForbidden)
	case r.append(request, order, body) != nil:
		refuse(w, http.StatusServiceUnavailable)
	default:
		io.WriteString(w, "success")
	}
}

// append returns when all in-sync replicas have the record.
func (r *receiver) append(request *http.Request, order string, body []byte) error {
	if r.client == nil {
		return nil
	}
	name := request.PathValue("account")
	record := &kgo.Record{
		Key:   []byte(name + ":" + order),
		Value: body,
		Headers: []kgo.RecordHeader{
			{Key: "account", Value: []byte(name)},
			{Key: "content-type", Value: []byte(request.Header.Get("Content-Type"))},
			{Key: "received-at", Value: time.Now().UTC().AppendFormat(nil, time.RFC3339Nano)},
		},
	}
	return r.client.ProduceSync(request.Context(), record).FirstErr()
}

func refuse(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	io.WriteString(w, "fail")
}

func readKey(path string) (*rsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no RSA key", path)
	}
	return public, nil
}

func main() {
	brokers := flag.String("brokers", "", "Kafka's addresses, by comma; without them nothing is logged")
	topic := flag.String("topic", "", "topic of the records")
	keyFile := flag.String("key", "", "PEM file of the public key")
	app := flag.String("app", "", "app_id of the account")
	seller := flag.String("seller", "", "seller_id of the account")
	linger := flag.Duration("linger", 2*time.Millisecond, "how long a batch waits for more records")
	flag.Parse()
	runtime.GOMAXPROCS(1) // it is measured on one core

	key, err := readKey(*keyFile)
	if err != nil {
		log.Fatal(err)
	}
	handler := &receiver{account: &account{key: key, app: *app, seller: *seller}}
	if *brokers != "" {
		handler.client, err = kgo.NewClient(
			kgo.SeedBrokers(strings.Split(*brokers, ",")...),
			kgo.DefaultProduceTopic(*topic),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(*linger),
			kgo.ProducerBatchCompression(kgo.NoCompression()),
		)
		if err != nil {
			log.Fatal(err)
		}
		defer handler.client.Close()
	}
	mux := http.NewServeMux()
	mux.Handle("POST /notify/{account}", handler)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       65 * time.Second,
	}
	if err := serve(server); err != nil {
		log.Fatal(err)
	}
}

// serve prints the port and serves until SIGTERM; then it answers the open requests.
func serve(server *http.Server) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	select {
	case err := <-failed:
		return err
	case <-stopped.Done():
		within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return server.Shutdown(within)
	}
}
