// Does with the Go ADBC driver what lines on its input say, and answers each with a line: see clients/spoken.py.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Request is one line of the input. What a request does not use is absent.
type Request struct {
	Session    int               `json:"session"`
	Do         string            `json:"do"`
	Options    map[string]string `json:"options"`
	SQL        string            `json:"sql"`
	Parameters [][]any           `json:"parameters"`
	Database   string            `json:"database"`
	Table      string            `json:"table"`
	File       string            `json:"file"`
	Mode       string            `json:"mode"`
	AfterMs    int64             `json:"after_ms"`
	Times      int               `json:"times"`
}

// Answer is one line of the output.
type Answer map[string]any

func main() {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := json.NewEncoder(os.Stdout)
	sessions := map[int]*Session{}
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		request := Request{}
		// Numbers keep their digits: a bound id is 64 bits wide.
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		if err := decoder.Decode(&request); err != nil {
			fmt.Fprintln(os.Stderr, "a line that is no request:", err)
			os.Exit(1)
		}
		answer, err := answered(sessions, request)
		if err != nil {
			answer = Answer{"error": failure(err)}
		}
		if err := output.Encode(answer); err != nil {
			fmt.Fprintln(os.Stderr, "an answer that cannot be written:", err)
			os.Exit(1)
		}
	}
}

func answered(sessions map[int]*Session, request Request) (Answer, error) {
	if request.Do == "connect" {
		session, err := Open(request.Options)
		if err != nil {
			return nil, err
		}
		sessions[request.Session] = session
		return Answer{}, nil
	}
	session, known := sessions[request.Session]
	if !known {
		return nil, errors.New("there is no such session")
	}
	if request.Do == "close" {
		delete(sessions, request.Session)
		return Answer{}, session.Close()
	}
	return session.Answer(context.Background(), request)
}
