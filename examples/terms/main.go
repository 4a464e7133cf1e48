// Reads what Erlang wrote, through Magpie's term service: one term, a part of one, and a stream of them.
//
//	go run main.go http://127.0.0.1:8080 events.bin
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

// User is #{name => <<"Juliet">>, age => 13, emails => [...]} in Erlang.
type User struct {
	Name   string   `json:"name"`
	Age    int      `json:"age"`
	Emails []string `json:"emails"`
}

// Event is #{at => 1, what => <<"login">>}, or what is wrong with the stream from here on.
type Event struct {
	At      int      `json:"at"`
	What    string   `json:"what"`
	Problem *Problem `json:"$error"`
}

// Problem says what went wrong (RFC 9457).
type Problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: main SERVICE EVENTS")
	}
	service, events := os.Args[1], os.Args[2]

	var user User
	if err := get(service+"/terms/users/42?mode=readable", &user); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s is %d and has %d addresses\n", user.Name, user.Age, len(user.Emails))

	// Only this part is sent; the first is 1, as in lists:nth/2.
	var email string
	if err := get(service+"/terms/users/42?mode=readable&path=emails/2", &email); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the second is", email)

	if err := get(service+"/terms/users/43?mode=readable", &user); err != nil {
		fmt.Println("user 43:", err)
	}

	file, err := os.Open(events)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	if err := convert(service, file); err != nil {
		log.Fatal(err)
	}
}

func get(url string, value any) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return read(response, func(body *json.Decoder) error { return body.Decode(value) })
}

// convert sends terms with 4 bytes of length before each, and prints them as they come back. Neither side ever holds the whole stream.
func convert(service string, terms io.Reader) error {
	response, err := http.Post(service+"/terms/to-json?mode=readable", "application/x-erlang-binary-stream", terms)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return read(response, func(body *json.Decoder) error {
		for {
			var event Event
			if err := body.Decode(&event); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if event.Problem != nil {
				return event.Problem
			}
			fmt.Println(event.At, event.What)
		}
	})
}

// read gives an answer's JSON to decode, or the problem that came in its place.
func read(response *http.Response, decode func(*json.Decoder) error) error {
	body := json.NewDecoder(response.Body)
	if response.StatusCode == http.StatusOK {
		return decode(body)
	}
	var problem Problem
	if err := body.Decode(&problem); err != nil {
		return fmt.Errorf("%s", response.Status)
	}
	return &problem
}
