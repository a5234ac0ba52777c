# Makes the tables and some people, once.

unless ActiveRecord::Base.connection.table_exists?(:users)
  ActiveRecord::Schema.verbose = false
  ActiveRecord::Schema.define do
    create_table(:users) { |t| t.string :name, :password_digest, :organization }
    create_table(:memberships) { |t| t.references(:user); t.string :organization, :role }
  end
  { "ada" => { "acme" => "admin", "globex" => "member" }, "bob" => { "globex" => "admin" } }.each do |name, roles|
    user = User.create!(name: name, password: "#{name}-password", organization: roles.keys.first)
    roles.each { |organization, role| user.memberships.create!(organization: organization, role: role) }
  end
end
