// Command shortener redirects short links: PUT stores one, GET follows it, and /visits tells how often that was.
package main

import (
	"crypto/subtle"
	"net/url"
	"orama"
	"strings"
)

const table = "CREATE TABLE IF NOT EXISTS links (name TEXT PRIMARY KEY, url TEXT NOT NULL, visits INTEGER NOT NULL DEFAULT 0)"

func main() {
	request, ok := orama.CurrentRequest()
	if !ok {
		orama.LogError("shortener answers HTTP requests alone")
		return
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(request.Path, "/"), "/")
	var err error
	switch {
	case name == "" || (rest != "" && rest != "visits"):
		err = orama.Error(404, "no such page")
	case request.Method == "PUT" && rest == "":
		err = store(request, name)
	case (request.Method == "GET" || request.Method == "HEAD") && rest == "visits":
		err = visits(name)
	case (request.Method == "GET" || request.Method == "HEAD") && rest == "":
		err = follow(name)
	default:
		err = orama.Error(405, "links take GET and PUT")
	}
	if err != nil {
		orama.Fail(err)
	}
}

// store keeps the link of the body, for whoever knows the token.
func store(request *orama.HTTPRequest, name string) error {
	token := orama.Secret("SHORTENER_TOKEN")
	if token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(request.Header("x-token"))) != 1 {
		return orama.Error(403, "a PUT needs the header X-Token")
	}
	body, err := orama.ReadInput()
	if err != nil {
		return err
	}
	target, err := url.Parse(strings.TrimSpace(string(body)))
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" {
		return orama.Error(400, "the body must be a URL that begins with http:// or https://")
	}
	results, _, err := orama.Transaction(
		orama.Exec(table),
		orama.Exec("INSERT INTO links (name, url) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, target.String()),
	)
	if err != nil {
		return err
	}
	if results[1].RowsAffected == 0 {
		return orama.Error(409, "there is a link of this name")
	}
	return orama.RespondJSON(201, map[string]string{"name": name, "url": target.String()})
}

func follow(name string) error {
	results, _, err := orama.Transaction(
		orama.Exec(table),
		orama.Exec("UPDATE links SET visits = visits + 1 WHERE name = ?", name),
		orama.Select("SELECT url FROM links WHERE name = ?", name),
	)
	if err != nil {
		return err
	}
	var links []struct {
		URL string `json:"url"`
	}
	if err := results[2].Into(&links); err != nil {
		return err
	}
	if len(links) == 0 {
		return orama.Error(404, "no such link")
	}
	return orama.Respond(302, map[string][]string{"Location": {links[0].URL}, "Cache-Control": {"no-store"}}, nil)
}

func visits(name string) error {
	results, _, err := orama.Transaction(orama.Exec(table), orama.Select("SELECT visits FROM links WHERE name = ?", name))
	if err != nil {
		return err
	}
	var links []struct {
		Visits int `json:"visits"`
	}
	if err := results[1].Into(&links); err != nil {
		return err
	}
	if len(links) == 0 {
		return orama.Error(404, "no such link")
	}
	return orama.RespondJSON(200, links[0])
}
