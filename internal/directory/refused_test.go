package directory_test

import (
	"errors"
	"testing"

	"orgcast/internal/directory"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: if Redis refuses the connection itself, because of a changed password or a
// deleted user, the directory knows nothing about organizations, members and objects.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.putOrganization(t, "acme", directory.Active)
			f.putMember(t, "acme", "7", directory.Active, "admin")
			client := f.server.NewRefusedClient(refusal)
			d, err := directory.NewRedis(client, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			o, err := directory.NewObjects(client, f.keys, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, org := as(t, "acme"), testkit.Org(t, "acme")
			_, memberErr := d.Member(ctx, org, "7")
			_, admitErr := d.Admit(ctx, org, "7")
			_, claimErr := o.Claim(ctx, "chat", "1", "7")
			_, getErr := directory.Get[audit](ctx, o, "audit", "1")
			for name, err := range map[string]error{
				"OrganizationActive": d.OrganizationActive(ctx, org), "Member": memberErr, "Admit": admitErr,
				"AdmitAll":        d.AdmitAll(ctx, []directory.Membership{{Organization: org, UserID: "7"}})[0].Err,
				"PutOrganization": d.PutOrganization(ctx, org, directory.Active),
				"PutMember":       d.PutMember(ctx, org, "7", directory.Active, directory.Member{}),
				"RemoveMember":    d.RemoveMember(ctx, org, "7"),
				"Claim":           claimErr, "Get": getErr, "Put": directory.Put(ctx, o, "audit", "1", directory.Object[audit]{}, 0),
			} {
				if !errors.Is(err, directory.ErrUnavailable) {
					t.Errorf("%s: got %v, want ErrUnavailable", name, err)
				}
			}
		})
	}
}
